-- What a lane takes of the server's memory, in bytes. Its requests are weighed where they are: MEMORY USAGE asks each
-- node of the stream, of which a small one has few, and so whatever became of an entry is seen at once. Stored replies
-- are keys of their own. They are entered in a sorted set: the id, and in one number the second in which the reply
-- expires and the UNITs that it takes; so those that have expired come first. The sum of all UNITs is the score of the
-- empty name, which no id can have. Of those with less than a LOT of UNITs some are drawn, each with the chance of its
-- UNITs in a LOT, and stand for a whole LOT: the sum is right on the average, and whoever sends many cannot tell which.
-- Nobody takes the entry of a reply away that he deletes. 'tidy' does that, when it matters and every second.

local UNIT, MOST_UNITS, EPOCH_S, SUM = 256, 4194304, 1700000000, ''
local OVERHEAD = 256 -- key, list, expiry and entry of a reply, besides its bytes
local LOT = 64
local LARGE = 16384

local function units_of(reply)
  return math.min(MOST_UNITS - 1, math.ceil((#reply + OVERHEAD) / UNIT))
end

-- What this server draws with. It begins somewhere else each time the functions are loaded.
local seed

local function is_drawn(units)
  if not seed then
    local clock = redis.call('TIME')
    seed = 1 + (clock[1] * 1000000 + clock[2]) % 2147483646
  end
  seed = seed * 16807 % 2147483647
  return seed % LOT < units
end

local function units_in(score)
  return tonumber(score) % MOST_UNITS
end

local function stored_bytes(key)
  return (tonumber(redis.call('ZSCORE', key.stored, SUM)) or 0) * UNIT
end

-- Takes ids, at most CHUNK of them, out of the set of stored replies, and what they took off the sum.
local function forget(key, ...)
  local sum = 0
  for _, score in ipairs(redis.call('ZMSCORE', key.stored, ...)) do
    sum = sum + (score and units_in(score) or 0)
  end
  if sum > 0 then
    redis.call('ZREM', key.stored, ...)
    redis.call('ZINCRBY', key.stored, -sum, SUM)
  end
end

-- By lane: how many bytes were left when they were last counted, less what came since, and for how many calls this is
-- good. In it every lane of this server that is used has two numbers.
local known = {}
local CALLS, NEAR = 16, 33554432

-- Enters replies that were just stored: {id, units, ms until it expires}….
local function enter(key, stored)
  if #stored == 0 then
    return
  end
  local now, sum, longest, pairs_of, ids = milliseconds(), 0, 0, {}, {}
  for i, one in ipairs(stored) do
    local second = math.max(1, math.ceil((now + one[3]) / 1000) - EPOCH_S)
    pairs_of[2 * i - 1], pairs_of[2 * i], ids[i] = second * MOST_UNITS + one[2], one[1], one[1]
    sum, longest = sum + one[2], math.max(longest, one[3] + 1000)
  end
  for first = 1, #ids, CHUNK / 2 do
    local last = math.min(first + CHUNK / 2 - 1, #ids)
    -- Whoever deleted a reply by himself left its entry; the new one takes its place, and its share of the sum.
    local left = last - first + 1 - redis.call('ZADD', key.stored, 'NX', unpack(pairs_of, 2 * first - 1, 2 * last))
    if left > 0 then
      local scores = redis.call('ZMSCORE', key.stored, unpack(ids, first, last))
      for pass = 1, 2 do -- those that differ are old; only if there are too few of them, equal ones are, too
        for i, score in ipairs(scores) do
          if left > 0 and (tonumber(score) ~= pairs_of[2 * (first + i) - 3]) == (pass == 1) then
            sum, left = sum - units_in(score), left - 1
          end
        end
      end
      redis.call('ZADD', key.stored, unpack(pairs_of, 2 * first - 1, 2 * last))
    end
  end
  redis.call('ZINCRBY', key.stored, sum, SUM)
  redis.call('PEXPIRE', key.stored, longest, 'NX') -- it ends with the last of them
  redis.call('PEXPIRE', key.stored, longest, 'GT')
  if known[key.stored] then
    known[key.stored].left = known[key.stored].left - sum * UNIT
  end
end

-- Names among {id, score, …} whose reply is gone. Mostly all are there, or none.
local function gone(key, found)
  local names_of, places, missing = {}, {}, {}
  for i = 1, #found, 2 do
    if found[i] ~= SUM then
      names_of[#names_of + 1], places[#places + 1] = found[i], key.reply .. found[i]
    end
  end
  local there = #places > 0 and redis.call('EXISTS', unpack(places)) or 0
  for i, name in ipairs(names_of) do
    if there == 0 or (there < #places and redis.call('EXISTS', places[i]) == 0) then
      missing[#missing + 1] = name
    end
  end
  return missing
end

-- Takes out of the set what has expired, and of the others those whose reply somebody deleted: it looks at some from a
-- place that the time chooses, and further on while it finds any. What is empty then is deleted, so that no mistake
-- could last.
local LOOKS, MOST_LOOKS = 100, 10000

local function tidy(key)
  local clock = redis.call('TIME')
  local bound = (clock[1] - EPOCH_S) * MOST_UNITS
  local expired = redis.call('ZRANGEBYSCORE', key.stored, '-inf', '(' .. string.format('%.0f', bound), 'LIMIT', 0, MOST_LOOKS)
  local ids = {}
  for _, id in ipairs(expired) do
    if id ~= SUM then
      ids[#ids + 1] = id
    end
  end
  in_chunks(ids, function(...) forget(key, ...) end)
  local count = redis.call('ZCARD', key.stored)
  local at, looked, found = count > LOOKS and clock[2] % count or 0, 0, true
  while count > 1 and looked < MOST_LOOKS and found do
    found = false
    local missing = gone(key, redis.call('ZRANGE', key.stored, at, at + LOOKS - 1, 'WITHSCORES'))
    if #missing > 0 then
      forget(key, unpack(missing))
      count, found = count - #missing, true
    end
    at, looked = at + LOOKS - #missing, looked + LOOKS
    at = at >= count and 0 or at
  end
  if count <= 1 then
    redis.call('UNLINK', key.stored)
  end
end

-- How many bytes more the lane may take, and whether it takes any now. An empty lane takes a first one of any size.
-- And how many bytes more its requests may take by its limit in prompt tokens; infinity where it has none.
local function room(key, length, need)
  local stored, queued = stored_bytes(key), length > 0 and queued_bytes(key) or 0
  local limit, most_tokens = limits_of(key)
  if stored > 0 and stored + queued + need > limit then
    tidy(key)
    stored = stored_bytes(key)
  end
  return limit - stored - queued, stored + queued > 0, most_tokens > 0 and token_room(key, most_tokens, queued) or math.huge
end

-- As room. While a lot is left it counts every now and then only, and takes what passes here off the last count.
local function room_for_requests(key, length, need)
  local last = known[key.stored]
  if last and last.calls > 0 and last.left - need > NEAR then
    last.calls, last.left = last.calls - 1, last.left - need
    return last.left + need, true, math.huge
  end
  local left, takes_some, token_left = room(key, length, need)
  known[key.stored] = { left = left - need, calls = token_left == math.huge and CALLS or 0 }
  return left, takes_some, token_left
end

-- hr1_bytes()
--
-- Says what the lane takes, in bytes. Only reads.
-- Returns {its requests, its stored replies, its limit, seconds until the oldest of these expires, the prompt tokens of
-- its requests, the limit of these, bytes that a thousand of them take}; the last three are 0 where nobody counts tokens.
register('hr1_bytes', READS, function(key, args)
  if #args ~= 0 then
    return
  end
  local first, seconds = redis.call('ZRANGE', key.stored, 0, 1, 'WITHSCORES'), 0
  for i = 1, #first, 2 do
    if first[i] ~= SUM then
      seconds = math.floor(tonumber(first[i + 1]) / MOST_UNITS) + EPOCH_S - redis.call('TIME')[1]
    end
  end
  local length = redis.pcall('XLEN', key.work)
  local queued = not failed(length) and length > 0 and queued_bytes(key) or 0
  local limit, most_tokens = limits_of(key)
  local said = kilotoken_bytes(key) or (most_tokens > 0 and KILOTOKEN_BYTES)
  local tokens = said and queued > 0 and message_bytes(key, queued) * 1000 / said or 0
  return { queued, stored_bytes(key), limit, math.max(0, seconds), math.ceil(tokens), most_tokens, said or 0 }
end)
