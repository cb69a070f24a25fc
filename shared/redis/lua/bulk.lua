-- Bulk batches: their records, and which front end drives each. Items and results lie in the result store; what runs goes
-- through the lane like every request.
--
-- hr:{model}:bulk holds LANE:ID of every batch, scored by when somebody has to look after it: when the lease of its
-- driver ends, or, once it has ended, when its time is over. Its record counts in `epoch` who looked after it: whoever
-- has an older number has lost it, and changes nothing any more.

local function bulk_record(key, lane, id)
  return key.head .. 'bk:' .. lane .. ':' .. id
end

local function bulk_parts(key, id)
  return key.head .. 'bp:' .. key.lane .. ':' .. id
end

-- Looks after a batch again in so many milliseconds. All of its keys go by themselves if nobody ever does.
local function attend(key, id, in_ms)
  local all, list = key.head .. 'bulk', key.head .. 'bl:' .. key.lane
  redis.call('ZADD', all, milliseconds() + in_ms, key.lane .. ':' .. id)
  for _, name in ipairs{ all, list, bulk_record(key, key.lane, id), bulk_parts(key, id) } do
    redis.call('PEXPIRE', name, BULK_MS)
  end
end

-- Sets fields of a record; a state comes with the time since when it holds. One that is being cancelled does not run.
local function set_fields(record, args, first)
  local before = redis.call('HGET', record, 'state')
  local set, after = {}, before
  for i = first, #args, 2 do
    local name, value = args[i], args[i + 1]
    if name ~= 'state' then
      set[#set + 1], set[#set + 2] = name, value
    elseif value ~= before and not (value == 'running' and before == 'cancelling') then
      after = value
      set[#set + 1], set[#set + 2] = 'state', value
      set[#set + 1], set[#set + 2] = value .. '_ms', milliseconds()
    end
  end
  if #set > 0 then
    redis.call('HSET', record, unpack(set))
  end
  return before, after
end

-- Has those hear of it who asked to: how a batch ended, and how its items did.
local ENDS = { completed = true, cancelled = true, failed = true }

local function tell_of_end(key, record, id, state)
  local hook, total, done, failed_ = unpack(redis.call('HMGET', record, 'hook', 'total', 'done', 'failed'))
  local counts = { total = tonumber(total) or 0, done = tonumber(done) or 0, failed = tonumber(failed_) or 0 }
  webhook_event(key, key.lane, id, 'batch.' .. state, hook, counts)
end

-- hr1_bulk_open(id, most, lease ms, has hook, (field, value)…)
--
-- Makes the record of a batch, whose upload begins. The lane may have so many batches at most, and so many webhooks.
-- Returns 'opened', 'exists', 'full' or 'hooks'.
register('hr1_bulk_open', WRITES, function(key, args)
  local id, most, lease, has_hook = args[1], whole(args[2]), whole(args[3]), args[4]
  if not (id and is_name(id) and most and lease and has_hook) or #args % 2 == 1 then
    return
  end
  local record, list = bulk_record(key, key.lane, id), key.head .. 'bl:' .. key.lane
  if redis.call('EXISTS', record) == 1 then
    return 'exists'
  elseif redis.call('ZCARD', list) >= most then
    return 'full'
  elseif has_hook == '1' and not webhook_room(key) then
    return 'hooks'
  end
  redis.call('HSET', record, 'epoch', 1)
  set_fields(record, args, 5)
  redis.call('ZADD', list, milliseconds(), id)
  attend(key, id, lease)
  return 'opened'
end)

-- hr1_bulk_claim(lease ms)
--
-- Takes a batch of any lane of the model that somebody has to look after, for so long.
-- Returns its lane, its id and the number of its new driver; nothing when there is none.
register('hr1_bulk_claim', ON_A_FULL_SERVER, function(key, args)
  local lease = whole(args[1])
  if not lease or #args ~= 1 then
    return
  end
  local all, now = key.head .. 'bulk', milliseconds()
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', all, '-inf', now, 'LIMIT', 0, 16)) do
    local lane, id = string.match(member, '^([%w_-]+):([%w_-]+)$')
    if lane and redis.call('EXISTS', bulk_record(key, lane, id)) == 1 then
      local epoch = redis.call('HINCRBY', bulk_record(key, lane, id), 'epoch', 1)
      redis.call('ZADD', all, now + lease, member)
      return { lane, id, tostring(epoch) }
    end
    redis.call('ZREM', all, member)
  end
  return {}
end)

-- hr1_bulk_save(id, epoch, attend ms, part, (field, value)…)
--
-- Notes what its driver has done: fields of the record, and a part of results unless it is empty. The lease goes on for
-- so many milliseconds. Its end is told to those who asked to hear of it.
-- Returns the state of the batch, or 'lost' where another one drives it.
register('hr1_bulk_save', ON_A_FULL_SERVER, function(key, args)
  local id, epoch, in_ms, part = args[1], args[2], whole(args[3]), args[4]
  if not (id and is_name(id) and in_ms and part) or #args % 2 == 1 then
    return
  end
  local record = bulk_record(key, key.lane, id)
  if redis.call('HGET', record, 'epoch') ~= epoch then
    return 'lost'
  end
  local before, after = set_fields(record, args, 5)
  if part ~= '' then
    redis.call('RPUSH', bulk_parts(key, id), part)
  end
  attend(key, id, in_ms)
  if after ~= before and ENDS[after] then
    tell_of_end(key, record, id, after)
  end
  return after
end)

-- hr1_bulk_cancel(id)
--
-- Has a batch run nothing more. Returns the state until now, 'unknown' where there is none.
register('hr1_bulk_cancel', ON_A_FULL_SERVER, function(key, args)
  local id = args[1]
  if #args ~= 1 or not is_name(id) then
    return
  end
  local record = bulk_record(key, key.lane, id)
  local state = redis.call('HGET', record, 'state')
  if state == 'queued' or state == 'running' then
    set_fields(record, { 'state', 'cancelling' }, 1)
  end
  return state or 'unknown'
end)

-- hr1_bulk_forget(id, epoch)
--
-- Deletes what Redis has of a batch, whose objects are gone. Returns 1, or 0 where another one looks after it.
register('hr1_bulk_forget', ON_A_FULL_SERVER, function(key, args)
  local id, epoch = args[1], args[2]
  if #args ~= 2 or not is_name(id) then
    return
  end
  local record = bulk_record(key, key.lane, id)
  if redis.call('HGET', record, 'epoch') ~= epoch then
    return 0
  end
  redis.call('UNLINK', record)
  redis.call('UNLINK', bulk_parts(key, id))
  redis.call('ZREM', key.head .. 'bulk', key.lane .. ':' .. id)
  redis.call('ZREM', key.head .. 'bl:' .. key.lane, id)
  return 1
end)
