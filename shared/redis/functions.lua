#!lua name=headrace1
-- version 1
-- The atomic steps of the queue, one call for many requests. docs/protocol.md is the contract.
--
-- KEYS[1] is always the work stream of a lane, hr:{model}:q:lane. Every other key is derived from it and shares its
-- hash tag, so a call stays inside one Redis Cluster slot. Arguments are validated before anything is written, and
-- each item is handled with pcall, so that one bad item never strands the others of its call.

local GROUP = 'workers'

local function names(work)
  local head, lane = string.match(work, '^(hr:{[%w_-]+}:)q:([%w_-]+)$')
  if not head then
    return nil
  end
  return {
    head = head,
    lane = lane,
    reply = head .. 'r:' .. lane .. ':',
    flight = head .. 'd:' .. lane .. ':',
    ends = head .. 'x:' .. lane,
    stream = head .. 'rs:' .. lane .. ':',
    lanes = head .. 'lanes',
    card = head .. 'card',
    workers = head .. 'workers',
    worker = head .. 'w:',
    dead = head .. 'dlq:' .. lane,
    stored = head .. 'b:' .. lane,
    usual = head .. 'bytes',
  }
end

local function is_name(text)
  return #text >= 1 and #text <= 64 and string.find(text, '^[%w_-]+$') ~= nil
end

local function whole(text)
  local number = tonumber(text)
  -- beyond 2^53 a Lua number is no whole number any more, and no expiry of Redis either
  if number == nil or number < 0 or number > 9007199254740992 or number ~= math.floor(number) then
    return nil
  end
  return number
end

local function failed(answer)
  return type(answer) == 'table' and answer.err ~= nil
end

local function field(fields, name)
  for i = 1, #fields, 2 do
    if fields[i] == name then
      return fields[i + 1]
    end
  end
  return nil
end

-- Lua passes only so many arguments in one call.
local CHUNK = 1000

local function in_chunks(list, call)
  for first = 1, #list, CHUNK do
    call(unpack(list, first, math.min(first + CHUNK - 1, #list)))
  end
end

local BAD_KEY = { err = 'ERR KEYS[1] must be hr:{model}:q:lane' }
local BAD_ARGS = { err = 'ERR wrong arguments' }

-- What a request says besides its payload. The server's own msgpack library is no use here: it does not know 'bin', and
-- would copy the payload. A message that cannot be read, or is made to be read for long, says what stands before that.

local MOST_VALUES = 4096
-- Bytes of the length or number behind a type byte, what follows, and its size where that is fixed.
local SIZED = {
  [0xc4] = { 1, 'data' }, [0xc5] = { 2, 'data' }, [0xc6] = { 4, 'data' },
  [0xca] = { 4 }, [0xcb] = { 8 }, [0xcc] = { 1, 'number' }, [0xcd] = { 2, 'number' }, [0xce] = { 4, 'number' },
  [0xcf] = { 8 }, [0xd0] = { 1 }, [0xd1] = { 2 }, [0xd2] = { 4 }, [0xd3] = { 8 },
  [0xd9] = { 1, 'data' }, [0xda] = { 2, 'data' }, [0xdb] = { 4, 'data' },
  [0xdc] = { 2, 'values', 1 }, [0xdd] = { 4, 'values', 1 }, [0xde] = { 2, 'values', 2 }, [0xdf] = { 4, 'values', 2 },
}

-- Returns where the next value begins, how many values are inside this one, and a short string or a number itself.
local function value_at(text, at)
  local kind = string.byte(text, at)
  if not kind or kind <= 0x7f then
    return kind and at + 1, 0, kind
  elseif kind <= 0x9f then
    return at + 1, kind <= 0x8f and 2 * (kind - 0x80) or kind - 0x90
  elseif kind <= 0xbf then
    return at + kind - 0x9f, 0, string.sub(text, at + 1, at + kind - 0xa0)
  elseif kind == 0xc0 or kind == 0xc2 or kind == 0xc3 or kind >= 0xe0 then
    return at + 1, 0
  end
  local width, what, each = unpack(SIZED[kind] or {})
  if not width or at + width > #text then
    return nil, 0
  end
  local size, after = 0, at + 1 + width
  for i = at + 1, at + width do
    size = size * 256 + string.byte(text, i)
  end
  if what == 'data' then
    return after + size, 0, size <= 64 and string.sub(text, after, after + size - 1) or nil
  elseif what == 'values' then
    return after, size * each
  end
  return after, 0, what and size
end

local function members(message)
  local found, values = {}, 0
  local at = value_at(message, 1)
  while at and values < MOST_VALUES do
    local name, inside, value
    at, inside, name = value_at(message, at)
    if not at or inside > 0 then
      break
    end
    at, inside, value = value_at(message, at)
    if at and name and value then
      found[name] = value
    end
    values = values + 2
    while at and inside > 0 and values < MOST_VALUES do
      local more
      at, more = value_at(message, at)
      inside, values = inside - 1 + more, values + 1
    end
  end
  return found
end

-- Says that an entry came to its end without a consumer, to all that read the lane's stream of such ends.
local ENDS_CAP, ENDS_MS = 10000, 3600000

local function announce(key, entry, id, code)
  redis.pcall('XADD', key.ends, 'MAXLEN', '~', ENDS_CAP, '*', 'entry', entry, 'id', id, 'code', code)
  redis.pcall('PEXPIRE', key.ends, ENDS_MS)
end

local function milliseconds()
  local clock = redis.call('TIME')
  return clock[1] * 1000 + math.floor(clock[2] / 1000)
end

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
local NODES = 4096 -- of a stream with more the first are taken for all
local USUAL_LIMIT = 536870912 -- where the server has no limit of its own
local USUAL_MS = 3600000 -- what workers said of it last is good for so long
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

local function queued_bytes(work)
  local bytes = redis.pcall('MEMORY', 'USAGE', work, 'SAMPLES', NODES)
  return type(bytes) == 'number' and bytes or 0
end

local function limit_bytes(key)
  local own = redis.call('HGET', key.lanes, key.lane .. ':bytes')
  return whole(own or '') or whole(redis.call('GET', key.usual) or '') or USUAL_LIMIT
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
local function room(key, work, length, need)
  local stored, queued = stored_bytes(key), length > 0 and queued_bytes(work) or 0
  local limit = limit_bytes(key)
  if stored > 0 and stored + queued + need > limit then
    tidy(key)
    stored = stored_bytes(key)
  end
  return limit - stored - queued, stored + queued > 0
end

-- As room. While a lot is left it counts every now and then only, and takes what passes here off the last count.
local function room_for_requests(key, work, length, need)
  local last = known[key.stored]
  if last and last.calls > 0 and last.left - need > NEAR then
    last.calls, last.left = last.calls - 1, last.left - need
    return last.left + need, true
  end
  local left, takes_some = room(key, work, length, need)
  known[key.stored] = { left = left - need, calls = CALLS }
  return left, takes_some
end

-- Deletes what waits at the head of the lane although its deadline has passed, at most so much, so that a call stays
-- short. What consumers have claimed is theirs. Returns how many.
local MOST_DROPPED = 32

local function drop_expired(key, work)
  local groups, after = redis.call('XINFO', 'GROUPS', work), '0-0'
  for _, group in ipairs(groups) do
    if field(group, 'name') == GROUP then
      after = field(group, 'last-delivered-id')
    end
  end
  local now, count = milliseconds(), 0
  while count < MOST_DROPPED do
    local row = redis.call('XRANGE', work, '(' .. after, '+', 'COUNT', 1)[1]
    if not row then
      break
    end
    local request, added = members(field(row[2], 'm') or ''), string.match(row[1], '^(%d+)')
    -- an id with more digits is no time, and no whole number in Lua
    if #added > 15 or type(request.ttl_ms) ~= 'number' or added + request.ttl_ms > now then
      break
    end
    redis.call('XDEL', work, row[1])
    announce(key, row[1], type(request.id) == 'string' and request.id or '', 'expired')
    after, count = row[1], count + 1
  end
  return count
end

-- hr1_admit(limit, instance, cursor, acknowledged count, item count, acknowledged ids…, (id, check, message)…)
--
-- Puts requests into the lane. In passing it deletes the replies that this front end has delivered (ids it made up
-- itself) and trims its reply stream to the cursor, so that memory stays flat. In a lane that is full, what has expired
-- at its head makes room first. A lane is full by the number of its requests, or by the bytes of these and of the stored
-- replies.
-- check '1': answer 'answered' when the reply of that id is already there.
-- check '1:ttl ms:expiry ms:fingerprint': besides, while an entry of that id is under way, no second one is added; that
-- it is under way is remembered for the expiry. Where both fingerprints are given, they must be the same.
-- Returns {length of the lane, status…}; a status is the entry's id, 'answered', 'joined …' (the id of the entry that is
-- under way), 'differs' (another fingerprint), 'full', 'absent' (no such stream) or 'error …'.

-- What is known of an id: a status, or nothing, and then the time to live, expiry and fingerprint to remember.
local function look_up(key, work, id, check)
  local ttl, expiry, print = string.match(check, '^1:(%d+):(%d+):([%w_-]*)$')
  ttl, expiry = whole(ttl or ''), whole(expiry or '')
  if check ~= '1' and not (ttl and expiry and expiry > 0) then
    return 'error malformed check'
  end
  local entry, deadline, had
  if ttl then
    entry, deadline, had = string.match(redis.call('GET', key.flight .. id) or '', '^(%d+%-%d+) (%d+) (.*)$')
  end
  local differs = entry and print ~= '' and had ~= '' and print ~= had
  if redis.call('EXISTS', key.reply .. id) == 1 then
    return differs and 'differs' or 'answered'
  end
  -- One whose time is nearly over will hardly be run, and who was told so a moment ago asks again at once.
  if entry and tonumber(deadline) > milliseconds() + ttl / 10 and #redis.call('XRANGE', work, entry, entry) > 0 then
    return differs and 'differs' or 'joined ' .. entry
  end
  return nil, ttl, expiry, print
end

local function admit(keys, args)
  local key = names(keys[1])
  if not key then
    return BAD_KEY
  end
  local limit, acks, items = whole(args[1]), whole(args[4]), whole(args[5])
  if not (limit and acks and items) or #args ~= 5 + acks + 3 * items then
    return BAD_ARGS
  end
  local instance, cursor = args[2], args[3]
  if instance ~= '' and is_name(instance) and cursor ~= '' then
    redis.pcall('XTRIM', key.stream .. instance, 'MINID', cursor)
  end
  local delivered = {}
  for i = 6, 5 + acks do
    if is_name(args[i]) then
      delivered[#delivered + 1] = key.reply .. args[i]
    end
  end
  in_chunks(delivered, function(...) redis.pcall('UNLINK', ...) end)
  local length = redis.call('XLEN', keys[1])
  if length >= limit and length > 0 then
    local fine, dropped = pcall(drop_expired, key, keys[1])
    length = length - (fine and dropped or 0)
  end
  local need = 0
  for i = 8 + acks, #args, 3 do
    need = need + #args[i]
  end
  local left, takes_some = math.huge, true
  if items > 0 then
    local fine
    fine, left, takes_some = pcall(room_for_requests, key, keys[1], length, need)
    if not fine then -- it may not look, or what it looked at is not ours
      left = math.huge
    end
  end
  local answer = { length }
  for i = 6 + acks, #args, 3 do
    local id, check, message = args[i], args[i + 1], args[i + 2]
    local status, ttl, expiry, print
    if not is_name(id) then
      status = 'error the id is not a valid name'
    elseif check ~= '0' then
      local fine
      fine, status, ttl, expiry, print = pcall(look_up, key, keys[1], id, check)
      if not fine then -- what is remembered of the id is not ours
        status = 'error ' .. (type(status) == 'table' and status.err or tostring(status))
      end
    end
    if status then
      -- it is not added
    elseif length >= limit or (#message > left and takes_some) then
      status = 'full'
    else
      local entry = redis.pcall('XADD', keys[1], 'NOMKSTREAM', '*', 'm', message)
      if failed(entry) then
        status = 'error ' .. entry.err
      elseif not entry then
        status = 'absent'
      else
        status = entry
        length = length + 1
        left, takes_some = left - #message, true
        if ttl then
          redis.pcall('SET', key.flight .. id, entry .. ' ' .. milliseconds() + ttl .. ' ' .. print, 'PX', expiry)
        end
      end
    end
    answer[#answer + 1] = status
  end
  answer[1] = length
  return answer
end

-- hr1_commit(stream cap, stream expiry ms, hint limit bytes, (entry, id, instance, expiry ms, reply)…)
--
-- Ends requests. A reply becomes visible only if this call is the one that acknowledges the entry and nobody has
-- answered the id before; then the entry is deleted. An expiry of 0 stores nothing: the reply is only hinted.
-- The hint goes out in any case; when the reply was not stored by this call, or is large, it carries the id only.
-- Where the lane has no room for the bytes of a large reply nothing is done: its request is to end with another one.
-- Returns a status per item: 1 stored or hinted, 0 not ours any more, 2 already answered, 'full', or 'error …'.

-- Acknowledges entries and returns the set of those that were still pending. One command for all of them: calling a
-- command from Lua costs more than most commands do.
local function acknowledge(work, entries)
  local ours = {}
  in_chunks(entries, function(...)
    local chunk = { ... }
    local count = redis.pcall('XACK', work, GROUP, ...)
    if failed(count) then -- one of the ids is none
      for _, entry in ipairs(chunk) do
        ours[entry] = redis.pcall('XACK', work, GROUP, entry) == 1
      end
    elseif count > 0 then
      for _, entry in ipairs(chunk) do
        -- Whoever acknowledges an entry deletes it in the same step, so those that are gone were not ours any more.
        ours[entry] = count == #chunk or #redis.call('XRANGE', work, entry, entry) > 0
      end
    end
  end)
  return ours
end

-- Stores one reply and hints at it; says whether the id had no reply before.
local function publish(key, cap, hint_limit, ours, entry, id, instance, expiry, reply, stored)
  local status, visible = 0, false
  if ours then
    status, visible = 1, true
    if expiry > 0 then
      local place = key.reply .. id
      if redis.call('RPUSH', place, reply) > 1 then
        redis.call('RPOP', place)
        status, visible = 2, false
      else
        redis.call('PEXPIRE', place, expiry)
        local units = units_of(reply)
        if units >= LOT or is_drawn(units) then
          stored[#stored + 1] = { id, math.max(units, LOT), expiry }
        end
      end
    end
  end
  if instance ~= '' then
    local stream = key.stream .. instance
    if visible and expiry == 0 then
      -- nothing is stored, so this end concerns this entry only: the id may have been asked for again meanwhile
      redis.call('XADD', stream, 'MAXLEN', '~', cap, '*', 'id', id, 'reply', reply, 'entry', entry)
    elseif visible and #reply < hint_limit then
      redis.call('XADD', stream, 'MAXLEN', '~', cap, '*', 'id', id, 'reply', reply)
    else
      redis.call('XADD', stream, 'MAXLEN', '~', cap, '*', 'id', id)
    end
  end
  return status
end

-- Says for which of the items the lane has no room: the large replies that would be too much, one after the other. What
-- a request took itself is free again with its reply. Where nothing is stored a first one has room, whatever its size.
local function without_room(key, work, args, valid)
  local without, free = {}, nil
  for i = 4, #args, 5 do
    local size = #args[i + 4]
    if valid[i] and size >= LARGE and whole(args[i + 3]) > 0 then
      if not free then
        free = room(key, work, 1, size)
        free = stored_bytes(key) == 0 and math.max(free, size) or free
      end
      if size > free then
        local found = redis.call('XRANGE', work, args[i], args[i])[1]
        free = free + (found and #(field(found[2], 'm') or '') or 0)
      end
      without[i] = size > free or nil
      free = size > free and free or free - size
    end
  end
  return without
end

local function commit(keys, args)
  local key = names(keys[1])
  if not key then
    return BAD_KEY
  end
  local cap, stream_expiry, hint_limit = whole(args[1]), whole(args[2]), whole(args[3])
  if not (cap and stream_expiry and hint_limit) or (#args - 3) % 5 ~= 0 then
    return BAD_ARGS
  end
  local entries, seen, valid = {}, {}, {}
  for i = 4, #args, 5 do
    local entry, instance = args[i], args[i + 2]
    local fits = string.find(entry, '^%d+%-%d+$') and is_name(args[i + 1]) and whole(args[i + 3])
    if fits and (instance == '' or is_name(instance)) then
      valid[i] = true
    end
  end
  local fine, without = pcall(without_room, key, keys[1], args, valid)
  without = fine and without or {}
  for i = 4, #args, 5 do
    if valid[i] and not without[i] and not seen[args[i]] then
      seen[args[i]] = true
      entries[#entries + 1] = args[i]
    end
  end
  local ours = acknowledge(keys[1], entries)
  local answer, streams, finished, stored = {}, {}, {}, {}
  for i = 4, #args, 5 do
    local status = 'error malformed item'
    if without[i] then
      status = 'full'
    elseif valid[i] then
      local entry, instance = args[i], args[i + 2]
      fine, status = pcall(
        publish, key, cap, hint_limit, ours[entry], entry, args[i + 1], instance, whole(args[i + 3]), args[i + 4],
        stored
      )
      if not fine then
        status = 'error ' .. (type(status) == 'table' and status.err or tostring(status))
      elseif instance ~= '' then
        streams[key.stream .. instance] = true
      end
      if ours[entry] then
        ours[entry] = false -- the same entry twice in a call is answered once
        finished[#finished + 1] = entry
      end
    end
    answer[#answer + 1] = status
  end
  in_chunks(finished, function(...) redis.pcall('XDEL', keys[1], ...) end)
  pcall(enter, key, stored)
  for stream in pairs(streams) do
    redis.pcall('PEXPIRE', stream, stream_expiry)
  end
  return answer
end

-- A clock that was set back leaves workers that were seen in the future, and would be alive until then, and entries
-- that were delivered in the future, and would never be idle: the list begins anew, and so do all leases.
local function clock_was_set_back(key, now, expiry)
  local newest = redis.call('ZRANGE', key.workers, -1, -1, 'WITHSCORES')
  if not newest[2] or tonumber(newest[2]) <= now + expiry then
    return
  end
  redis.call('ZREMRANGEBYSCORE', key.workers, '(' .. now, '+inf')
  local lanes = redis.call('HGETALL', key.lanes)
  for i = 1, #lanes, 2 do
    local work = key.head .. 'q:' .. lanes[i]
    local pending = redis.pcall('XPENDING', work, GROUP, '-', '+', 1000000)
    for _, row in ipairs(failed(pending) and {} or pending) do
      redis.call('XCLAIM', work, GROUP, row[2], 0, row[1], 'IDLE', 0, 'JUSTID')
    end
  end
end

-- hr1_heartbeat(worker, worker expiry ms, lane limit, worker field count, worker fields…, card fields…)
--
-- Says that a worker lives, publishes its model's card, and makes the lane's stream and group where they are missing,
-- so that a flushed server heals. The group starts at 0: whatever is in the stream gets done. The worker's field
-- 'lane_bytes' is what a lane may take that has no limit of its own; 0, as without it, stands for half of the server's
-- memory.
-- Returns {Redis time in ms, length of the lane}.

local function usual_limit(fields)
  local said = whole(field(fields, 'lane_bytes') or '')
  if said and said > 0 then
    return said
  end
  local info = redis.pcall('INFO', 'memory')
  local most = type(info) == 'string' and tonumber(string.match(info, 'maxmemory:(%d+)')) or 0
  return most > 0 and math.floor(most / 2) or USUAL_LIMIT
end

local function heartbeat(keys, args)
  local key = names(keys[1])
  if not key then
    return BAD_KEY
  end
  local expiry, limit, count = whole(args[2]), whole(args[3]), whole(args[4])
  if not (args[1] and is_name(args[1]) and expiry and limit and count) or count % 2 == 1 or #args < 4 + count or #args % 2 == 1 then
    return BAD_ARGS
  end
  local clock = redis.call('TIME')
  local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
  local made = redis.pcall('XGROUP', 'CREATE', keys[1], GROUP, '0', 'MKSTREAM')
  if failed(made) and not string.find(made.err, 'BUSYGROUP', 1, true) then
    return made
  end
  local known = redis.call('HGET', key.lanes, key.lane)
  if not (known and string.find(known, ',', 1, true)) then -- with a comma it is an operator's
    redis.call('HSET', key.lanes, key.lane, limit)
  end
  local usual = string.format('%.0f', usual_limit({ unpack(args, 5, 4 + count) }))
  redis.call('SET', key.usual, usual, 'PX', USUAL_MS)
  clock_was_set_back(key, now, expiry)
  redis.call('ZADD', key.workers, now, args[1])
  redis.call('ZREMRANGEBYSCORE', key.workers, '-inf', now - expiry)
  redis.call('PEXPIRE', key.workers, expiry)
  local worker = key.worker .. args[1]
  redis.call('HSET', worker, 'seen_ms', now, unpack(args, 5, 4 + count))
  redis.call('PEXPIRE', worker, expiry)
  if #args > 4 + count then
    redis.call('HSET', key.card, unpack(args, 5 + count))
  end
  return { now, redis.call('XLEN', keys[1]) }
end

-- hr1_leave(worker)
--
-- Takes a worker off the list and, when nothing is pending for it, its consumer out of the group. Deleting a consumer
-- with pending entries would strand them, so those wait for XAUTOCLAIM.
-- Returns the number of entries still pending for the worker.
local function leave(keys, args)
  local key = names(keys[1])
  if not key then
    return BAD_KEY
  end
  if #args ~= 1 or not is_name(args[1]) then
    return BAD_ARGS
  end
  redis.call('ZREM', key.workers, args[1])
  redis.call('UNLINK', key.worker .. args[1])
  local pending = redis.pcall('XPENDING', keys[1], GROUP, '-', '+', 1, args[1])
  if failed(pending) then
    return 0
  end
  if #pending == 0 then
    redis.call('XGROUP', 'DELCONSUMER', keys[1], GROUP, args[1])
  end
  return #pending
end

-- hr1_renew(worker, entry…)
--
-- Keeps the leases of those entries that the worker still owns: their idle time starts anew, their count of deliveries
-- stays. Returns those it does not own any more.
local function renew(keys, args)
  local key = names(keys[1])
  if not key then
    return BAD_KEY
  end
  if not (args[1] and is_name(args[1])) then
    return BAD_ARGS
  end
  local worker, owned = args[1], {}
  local pending = redis.pcall('XPENDING', keys[1], GROUP, '-', '+', 1000000, worker)
  if failed(pending) then
    return pending
  end
  for _, row in ipairs(pending) do
    owned[row[1]] = true
  end
  local kept, lost = {}, {}
  for i = 2, #args do
    local list = owned[args[i]] and kept or lost
    list[#list + 1] = args[i]
  end
  for first = 1, #kept, CHUNK do
    local command = { 'XCLAIM', keys[1], GROUP, worker, 0, unpack(kept, first, math.min(first + CHUNK - 1, #kept)) }
    command[#command + 1] = 'JUSTID'
    redis.call(unpack(command))
  end
  return lost
end

-- Gives claimed entries with their messages: {entry, deliveries, message or false}…; takes the deleted ones out of the
-- group's list.
local function with_messages(work, rows)
  local answer = {}
  for _, row in ipairs(rows) do
    local found = redis.call('XRANGE', work, row[1], row[1])[1]
    if not found then
      redis.call('XACK', work, GROUP, row[1])
    else
      answer[#answer + 1] = { row[1], row[4], field(found[2], 'm') or false }
    end
  end
  return answer
end

-- hr1_reclaim(worker, idle ms, count)
--
-- Takes over up to count entries whose lease has run out. Their count of deliveries stays: being taken over is no
-- fault of theirs. Unlike XAUTOCLAIM with a small COUNT, which looks at ten times as many entries and then gives up,
-- this finds them behind any number of entries whose leases are kept.
-- Returns {entry, deliveries so far, message or false}….
local function reclaim(keys, args)
  local key = names(keys[1])
  if not key then
    return BAD_KEY
  end
  local idle, count = whole(args[2]), whole(args[3])
  if #args ~= 3 or not is_name(args[1]) or not (idle and count) then
    return BAD_ARGS
  end
  local rows = redis.pcall('XPENDING', keys[1], GROUP, 'IDLE', idle, '-', '+', count)
  if failed(rows) then
    return rows
  end
  for _, row in ipairs(rows) do
    redis.call('XCLAIM', keys[1], GROUP, args[1], 0, row[1], 'JUSTID')
  end
  return with_messages(keys[1], rows)
end

-- hr1_claimed(worker, after entry, count)
--
-- What the worker holds behind an entry, without counting a delivery, as XREADGROUP would. After a lost connection:
-- the server may have claimed entries for the worker whose answer was lost.
-- Returns {entry, deliveries so far, message or false}…, deleted entries excepted, and in front the last entry looked
-- at, empty when there was none.
local function claimed(keys, args)
  local key = names(keys[1])
  if not key then
    return BAD_KEY
  end
  local count = whole(args[3])
  if #args ~= 3 or not is_name(args[1]) or not count or not string.find(args[2], '^%d+%-%d+$') then
    return BAD_ARGS
  end
  local rows = redis.pcall('XPENDING', keys[1], GROUP, '(' .. args[2], '+', count, args[1])
  if failed(rows) and string.find(rows.err, 'invalid start ID', 1, true) then
    rows = {} -- nothing lies behind the highest id there is, which anybody who may add can give an entry
  end
  if failed(rows) then
    return rows
  end
  local answer = with_messages(keys[1], rows)
  table.insert(answer, 1, #rows > 0 and rows[#rows][1] or '')
  return answer
end

-- hr1_begin(worker, entry, deliveries)
--
-- Counts one more delivery, just before an entry runs alone. Returns 1, or 0 when the worker does not own it any more.
local function begin(keys, args)
  local key = names(keys[1])
  if not key then
    return BAD_KEY
  end
  local deliveries = whole(args[3])
  if #args ~= 3 or not is_name(args[1]) or not deliveries or not string.find(args[2], '^%d+%-%d+$') then
    return BAD_ARGS
  end
  local row = redis.pcall('XPENDING', keys[1], GROUP, args[2], args[2], 1, args[1])
  if failed(row) then
    return row
  end
  if #row == 0 then
    return 0
  end
  return #redis.call('XCLAIM', keys[1], GROUP, args[1], 0, args[2], 'RETRYCOUNT', deliveries, 'JUSTID')
end

-- hr1_dead(stream cap, stream expiry ms, hint limit bytes, most dead letters, most bytes of them,
--          (entry, id, instance, expiry ms, reply, reason, crashes)…)
--
-- Ends requests as dead letters: like commit, and the message goes to the lane's dead letters with the reason. An
-- empty id has no reply. Both bounds drop the oldest letters; 'sum' in each is the bytes of all messages up to it,
-- so that their total is known without looking at all of them.
-- Returns a status per item: 1 done by this call, 0 not ours any more, 2 the id was answered before, or 'error …'.

local function add_letter(place, most, most_bytes, entry, id, message, reason, crashes)
  local sum, size = #message, #message
  local newest = redis.call('XREVRANGE', place, '+', '-', 'COUNT', 1)[1]
  if newest then
    sum = sum + (tonumber(field(newest[2], 'sum')) or 0)
  end
  redis.call(
    'XADD', place, 'MAXLEN', most, '*', 'reason', reason, 'crashes', crashes, 'id', id, 'entry', entry,
    'sum', string.format('%.0f', sum), 'm', message
  )
  while true do
    local oldest = redis.call('XRANGE', place, '-', '+', 'COUNT', 1)[1]
    local before = (tonumber(field(oldest[2], 'sum')) or 0) - #(field(oldest[2], 'm') or '')
    if sum - before <= most_bytes or sum - before <= size then
      return
    end
    redis.call('XDEL', place, oldest[1])
  end
end

local function bury(key, work, args, i)
  local entry, id, instance = args[i], args[i + 1], args[i + 2]
  local found = redis.call('XRANGE', work, entry, entry)[1]
  local ours = redis.call('XACK', work, GROUP, entry) == 1
  if ours and found then
    local message = field(found[2], 'm') or ''
    add_letter(key.dead, whole(args[4]), whole(args[5]), entry, id, message, args[i + 5], args[i + 6])
    redis.call('XDEL', work, entry)
  end
  if id == '' then
    return ours and 1 or 0
  end
  local stored = {}
  local expiry, reply = whole(args[i + 3]), args[i + 4]
  local status = publish(key, whole(args[1]), whole(args[3]), ours, entry, id, instance, expiry, reply, stored)
  pcall(enter, key, stored)
  return status
end

local function dead(keys, args)
  local key = names(keys[1])
  if not key then
    return BAD_KEY
  end
  for i = 1, 5 do
    if not whole(args[i]) then
      return BAD_ARGS
    end
  end
  if (#args - 5) % 7 ~= 0 or whole(args[4]) == 0 then -- a bound of none would drop the letter and strand its entry
    return BAD_ARGS
  end
  local answer = {}
  for i = 6, #args, 7 do
    local id, instance = args[i + 1], args[i + 2]
    local status = 'error malformed item'
    if string.find(args[i], '^%d+%-%d+$') and (id == '' or is_name(id)) and (instance == '' or is_name(instance))
      and whole(args[i + 3]) and whole(args[i + 6]) then
      local fine
      fine, status = pcall(bury, key, keys[1], args, i)
      if not fine then
        status = 'error ' .. (type(status) == 'table' and status.err or tostring(status))
      elseif instance ~= '' then
        redis.pcall('PEXPIRE', key.stream .. instance, whole(args[2]))
      end
    end
    answer[#answer + 1] = status
  end
  return answer
end

-- hr1_reap(idle ms)
--
-- Takes consumers out of the group that are gone: not on the list of workers, idle for long, and with nothing pending,
-- which deleting them would strand. Returns how many.
local function reap(keys, args)
  local key = names(keys[1])
  if not key then
    return BAD_KEY
  end
  local longest = whole(args[1])
  if #args ~= 1 or not longest then
    return BAD_ARGS
  end
  local consumers = redis.pcall('XINFO', 'CONSUMERS', keys[1], GROUP)
  if failed(consumers) then
    return consumers
  end
  local count = 0
  for _, one in ipairs(consumers) do
    local name, gone = field(one, 'name'), field(one, 'pending') == 0 and field(one, 'idle') > longest
    if gone and not redis.call('ZSCORE', key.workers, name) then
      redis.call('XGROUP', 'DELCONSUMER', keys[1], GROUP, name)
      count = count + 1
    end
  end
  return count
end

-- hr1_requeue((letter, id)…)
--
-- Puts dead letters back into their lane, each with a fresh deadline. An older reply to the id and what is remembered of
-- it are forgotten, so that it starts afresh. An empty id has neither.
-- Returns a status per item: the new entry's id, 'gone' (there is no such letter), or 'error …'.

local function put_back(key, work, letter, id)
  local found = redis.call('XRANGE', key.dead, letter, letter)[1]
  if not found then
    return 'gone'
  end
  local message = field(found[2], 'm')
  if not message then
    return 'error the letter has no message'
  end
  -- A lane that is not set up is made: its consumers begin at the very start.
  local entry = redis.call('XADD', work, '*', 'm', message)
  if id ~= '' then
    redis.call('UNLINK', key.reply .. id, key.flight .. id)
    pcall(forget, key, id)
  end
  redis.call('XDEL', key.dead, letter)
  return entry
end

local function requeue(keys, args)
  local key = names(keys[1])
  if not key then
    return BAD_KEY
  end
  if #args % 2 == 1 then
    return BAD_ARGS
  end
  local answer = {}
  for i = 1, #args, 2 do
    local status = 'error malformed item'
    if string.find(args[i], '^%d+%-%d+$') and (args[i + 1] == '' or is_name(args[i + 1])) then
      local fine
      fine, status = pcall(put_back, key, keys[1], args[i], args[i + 1])
      if not fine then
        status = 'error ' .. (type(status) == 'table' and status.err or tostring(status))
      end
    end
    answer[#answer + 1] = status
  end
  return answer
end

-- hr1_lanes()
--
-- Makes stream and group of every lane of the model where they are missing, and tidies what is known of its stored
-- replies. Returns the lanes as HGETALL does: name, 'limit,weight'…, and with ':bytes' behind a name what that lane may
-- take.
local function lanes(keys, args)
  local key = names(keys[1])
  if not key then
    return BAD_KEY
  end
  if #args ~= 0 then
    return BAD_ARGS
  end
  local found = redis.call('HGETALL', key.lanes)
  for i = 1, #found, 2 do
    if is_name(found[i]) then
      redis.pcall('XGROUP', 'CREATE', key.head .. 'q:' .. found[i], GROUP, '0', 'MKSTREAM')
      local other = names(key.head .. 'q:' .. found[i])
      known[other.stored] = nil -- its limit may be another
      pcall(tidy, other)
    end
  end
  return found
end

-- hr1_repair(most[, ahead ms])
--
-- Makes the lane's stream and group anew and puts its entries back in their order, the oldest first and at most so
-- many, with ids of now: so their time to live begins anew. Whatever consumers hold of the lane is among them. This is
-- the way back from an id so high that XADD makes no more: XSETID does not lead down everywhere. The lane's stream of
-- ends is cleared as well. With ahead ms nothing is done unless the newest id lies so far in the future, and the stream
-- of ends stays.
-- Returns {kept, dropped}.

-- Moves up to so many entries to another stream, the first under the given id, those after it under what follows.
-- Some no call can carry. Returns how many were moved and how many lost.
local function move(from, to, most, id)
  local moved, lost = 0, 0
  while moved < most do
    local rows = redis.pcall('XRANGE', from, '-', '+', 'COUNT', math.min(100, most - moved))
    if failed(rows) or #rows == 0 then
      break
    end
    local taken = {}
    for i, row in ipairs(rows) do
      taken[i] = row[1]
      if pcall(function() redis.call('XADD', to, id, unpack(row[2])) end) then
        moved, id = moved + 1, '*'
      else
        lost = lost + 1
      end
    end
    redis.call('XDEL', from, unpack(taken))
  end
  return moved, lost
end

local function repair(keys, args)
  local key = names(keys[1])
  if not key then
    return BAD_KEY
  end
  local most, ahead = whole(args[1]), whole(args[2] or '0')
  if #args < 1 or #args > 2 or not (most and ahead) then
    return BAD_ARGS
  end
  if #args == 2 then
    local info = redis.pcall('XINFO', 'STREAM', keys[1])
    -- as a number it is not exact beyond 2^53, but as far in the future as it is
    if failed(info) or tonumber(string.match(field(info, 'last-generated-id'), '^%d+')) <= milliseconds() + ahead then
      return { 0, 0 }
    end
  end
  local shelf = key.head .. 'repair:' .. key.lane
  redis.call('UNLINK', shelf)
  local kept, dropped = move(keys[1], shelf, most, '*')
  local left = redis.pcall('XLEN', keys[1])
  redis.call('UNLINK', keys[1])
  redis.call('XGROUP', 'CREATE', keys[1], GROUP, '0', 'MKSTREAM')
  -- Not 0 as the first number of this millisecond: an id that a consumer still holds must not come again.
  move(shelf, keys[1], kept, milliseconds() .. '-1099511627776')
  redis.call('UNLINK', shelf)
  if #args == 1 then -- after a clock was set back its ids must go on from where all have read it
    redis.pcall('UNLINK', key.ends)
  end
  return { kept, dropped + (failed(left) and 0 or left) }
end

-- hr1_cancel(tell, (id, entry)…)
--
-- Takes requests back: one that waits is deleted; one that a consumer has claimed is taken away from it as well, so
-- that whatever still comes of it changes nothing, and its consumer is told through the lane's stream of ends.
-- An empty entry is the one that is under way for a client's own id. With tell '1' somebody may wait for the answer, and
-- is told through the same stream.
-- Returns a status per item: 'queued' or 'claimed' (what it was until now), 'answered' (there is a reply already),
-- 'unknown' (it is not under way), or 'error …'.

local function take_back(key, work, tell, id, entry)
  if not is_name(id) then
    return 'error the id is not a valid name'
  end
  local noted = string.match(redis.call('GET', key.flight .. id) or '', '^(%d+%-%d+) ')
  if entry == '' then
    entry = noted
  elseif not string.find(entry, '^%d+%-%d+$') then
    return 'error the entry is none'
  end
  local claimed = entry and redis.call('XACK', work, GROUP, entry) == 1
  if not entry or redis.call('XDEL', work, entry) == 0 then
    return redis.call('EXISTS', key.reply .. id) == 1 and 'answered' or 'unknown'
  end
  if noted == entry then
    redis.call('UNLINK', key.flight .. id)
  end
  if claimed or tell then
    announce(key, entry, id, 'cancelled')
  end
  return claimed and 'claimed' or 'queued'
end

local function each(items, step)
  local answer = {}
  for i = 1, #items do
    local fine, status = pcall(step, items[i])
    if not fine then
      status = 'error ' .. (type(status) == 'table' and status.err or tostring(status))
    end
    answer[i] = status
  end
  return answer
end

local function cancel(keys, args)
  local key = names(keys[1])
  if not key then
    return BAD_KEY
  end
  if (args[1] ~= '0' and args[1] ~= '1') or #args % 2 == 0 then
    return BAD_ARGS
  end
  local items = {}
  for i = 2, #args, 2 do
    items[#items + 1] = { args[i], args[i + 1] }
  end
  return each(items, function(item) return take_back(key, keys[1], args[1] == '1', item[1], item[2]) end)
end

-- hr1_ask(id…)
--
-- Says how requests with ids of the clients' own stand: 'answered', 'queued', 'claimed' or 'unknown'. Only reads.

local function standing(key, work, id)
  if not is_name(id) then
    return 'error the id is not a valid name'
  end
  if redis.call('EXISTS', key.reply .. id) == 1 then
    return 'answered'
  end
  local entry = string.match(redis.call('GET', key.flight .. id) or '', '^(%d+%-%d+) ')
  if not entry or #redis.call('XRANGE', work, entry, entry) == 0 then
    return 'unknown'
  end
  local row = redis.pcall('XPENDING', work, GROUP, entry, entry, 1)
  return (failed(row) or #row == 0) and 'queued' or 'claimed'
end

local function ask(keys, args)
  local key = names(keys[1])
  if not key then
    return BAD_KEY
  end
  return each(args, function(id) return standing(key, keys[1], id) end)
end

-- hr1_bytes()
--
-- Says what the lane takes, in bytes. Only reads.
-- Returns {its requests, its stored replies, its limit, seconds until the oldest of these expires}.
local function bytes(keys, args)
  local key = names(keys[1])
  if not key then
    return BAD_KEY
  end
  if #args ~= 0 then
    return BAD_ARGS
  end
  local first, seconds = redis.call('ZRANGE', key.stored, 0, 1, 'WITHSCORES'), 0
  for i = 1, #first, 2 do
    if first[i] ~= SUM then
      seconds = math.floor(tonumber(first[i + 1]) / MOST_UNITS) + EPOCH_S - redis.call('TIME')[1]
    end
  end
  local length = redis.pcall('XLEN', keys[1])
  local queued = not failed(length) and length > 0 and queued_bytes(keys[1]) or 0
  return { queued, stored_bytes(key), limit_bytes(key), math.max(0, seconds) }
end

-- hr1_answered(stream cap, stream expiry ms, (entry, id, instance)…)
--
-- Ends entries whose id has a reply already, such as requests that were sent twice: the hint carries the id only.
-- Returns a status per item: 1 ended, 0 there is no reply, so it is to run, or 'error …'.

local function end_answered(key, work, cap, entry, id, instance)
  local fits = string.find(entry, '^%d+%-%d+$') and is_name(id) and (instance == '' or is_name(instance))
  if not fits then
    return 'error malformed item'
  end
  if redis.call('EXISTS', key.reply .. id) == 0 then
    return 0
  end
  redis.call('XACK', work, GROUP, entry)
  redis.call('XDEL', work, entry)
  if instance ~= '' then
    redis.call('XADD', key.stream .. instance, 'MAXLEN', '~', cap, '*', 'id', id)
  end
  return 1
end

local function answered(keys, args)
  local key = names(keys[1])
  if not key then
    return BAD_KEY
  end
  local cap, stream_expiry = whole(args[1]), whole(args[2])
  if not (cap and stream_expiry) or (#args - 2) % 3 ~= 0 then
    return BAD_ARGS
  end
  local items, streams = {}, {}
  for i = 3, #args, 3 do
    items[#items + 1] = { args[i], args[i + 1], args[i + 2] }
    if args[i + 2] ~= '' and is_name(args[i + 2]) then
      streams[key.stream .. args[i + 2]] = true
    end
  end
  local answer = each(items, function(item) return end_answered(key, keys[1], cap, item[1], item[2], item[3]) end)
  for stream in pairs(streams) do
    redis.pcall('PEXPIRE', stream, stream_expiry)
  end
  return answer
end

redis.register_function('hr1_admit', admit)
redis.register_function{ function_name = 'hr1_commit', callback = commit, flags = { 'allow-oom' } }
redis.register_function{ function_name = 'hr1_heartbeat', callback = heartbeat, flags = { 'allow-oom' } }
redis.register_function{ function_name = 'hr1_leave', callback = leave, flags = { 'allow-oom' } }
redis.register_function{ function_name = 'hr1_renew', callback = renew, flags = { 'allow-oom' } }
redis.register_function{ function_name = 'hr1_reclaim', callback = reclaim, flags = { 'allow-oom' } }
redis.register_function{ function_name = 'hr1_claimed', callback = claimed, flags = { 'allow-oom' } }
redis.register_function{ function_name = 'hr1_begin', callback = begin, flags = { 'allow-oom' } }
redis.register_function{ function_name = 'hr1_dead', callback = dead, flags = { 'allow-oom' } }
redis.register_function{ function_name = 'hr1_reap', callback = reap, flags = { 'allow-oom' } }
redis.register_function{ function_name = 'hr1_requeue', callback = requeue, flags = { 'allow-oom' } }
redis.register_function{ function_name = 'hr1_lanes', callback = lanes, flags = { 'allow-oom' } }
redis.register_function{ function_name = 'hr1_repair', callback = repair, flags = { 'allow-oom' } }
redis.register_function{ function_name = 'hr1_cancel', callback = cancel, flags = { 'allow-oom' } }
redis.register_function{ function_name = 'hr1_ask', callback = ask, flags = { 'no-writes' } }
redis.register_function{ function_name = 'hr1_bytes', callback = bytes, flags = { 'no-writes' } }
redis.register_function{ function_name = 'hr1_answered', callback = answered, flags = { 'allow-oom' } }
