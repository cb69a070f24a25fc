#!lua name=headrace1
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
    lane = lane,
    reply = head .. 'r:' .. lane .. ':',
    flight = head .. 'd:' .. lane .. ':',
    stream = head .. 'rs:' .. lane .. ':',
    lanes = head .. 'lanes',
    card = head .. 'card',
    workers = head .. 'workers',
    worker = head .. 'w:',
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

-- Lua passes only so many arguments in one call.
local CHUNK = 1000

local function in_chunks(list, call)
  for first = 1, #list, CHUNK do
    call(unpack(list, first, math.min(first + CHUNK - 1, #list)))
  end
end

local BAD_KEY = { err = 'ERR KEYS[1] must be hr:{model}:q:lane' }
local BAD_ARGS = { err = 'ERR wrong arguments' }

-- hr1_admit(limit, instance, cursor, acknowledged count, item count, acknowledged ids…, (id, check, message)…)
--
-- Puts requests into the lane. In passing it deletes the replies that this front end has delivered (ids it made up
-- itself) and trims its reply stream to the cursor, so that memory stays flat.
-- check '1': answer 'answered' when the reply of that id is already there.
-- check '1:ttl ms:expiry ms:fingerprint': besides, while an entry of that id is under way, no second one is added; that
-- it is under way is remembered for the expiry. Where both fingerprints are given, they must be the same.
-- Returns {length of the lane, status…}; a status is the entry's id, 'answered', 'joined …' (the id of the entry that is
-- under way), 'differs' (another fingerprint), 'full', 'absent' (no such stream) or 'error …'.

local function milliseconds()
  local clock = redis.call('TIME')
  return clock[1] * 1000 + math.floor(clock[2] / 1000)
end

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
  local answer = { length }
  for i = 6 + acks, #args, 3 do
    local id, check, message = args[i], args[i + 1], args[i + 2]
    local status, ttl, expiry, print
    if not is_name(id) then
      status = 'error the id is not a valid name'
    elseif check ~= '0' then
      status, ttl, expiry, print = look_up(key, keys[1], id, check)
    end
    if status then
      -- it is not added
    elseif length >= limit then
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
-- Returns a status per item: 1 stored or hinted, 0 not ours any more, 2 already answered, or 'error …'.

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
local function publish(key, cap, hint_limit, ours, entry, id, instance, expiry, reply)
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
      if not seen[entry] then
        seen[entry] = true
        entries[#entries + 1] = entry
      end
    end
  end
  local ours = acknowledge(keys[1], entries)
  local answer, streams, finished = {}, {}, {}
  for i = 4, #args, 5 do
    local status = 'error malformed item'
    if valid[i] then
      local entry, instance = args[i], args[i + 2]
      local fine
      fine, status = pcall(
        publish, key, cap, hint_limit, ours[entry], entry, args[i + 1], instance, whole(args[i + 3]), args[i + 4]
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
  for stream in pairs(streams) do
    redis.pcall('PEXPIRE', stream, stream_expiry)
  end
  return answer
end

-- hr1_heartbeat(worker, worker expiry ms, lane limit, worker field count, worker fields…, card fields…)
--
-- Says that a worker lives, publishes its model's card, and makes the lane's stream and group where they are missing,
-- so that a flushed server heals. The group starts at 0: whatever is in the stream gets done.
-- Returns {Redis time in ms, length of the lane}.
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
  redis.call('HSET', key.lanes, key.lane, limit)
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

redis.register_function('hr1_admit', admit)
redis.register_function{ function_name = 'hr1_commit', callback = commit, flags = { 'allow-oom' } }
redis.register_function{ function_name = 'hr1_heartbeat', callback = heartbeat, flags = { 'allow-oom' } }
redis.register_function{ function_name = 'hr1_leave', callback = leave, flags = { 'allow-oom' } }
