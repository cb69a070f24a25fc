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

-- What a worker's field says, where that is nothing or 0 a share of the server's memory; of the usual one where that
-- has no limit.
local function share(fields, name, part)
  local said = whole(field(fields, name))
  if said and said > 0 then
    return string.format('%.0f', said)
  end
  local info = redis.pcall('INFO', 'memory')
  local most = type(info) == 'string' and tonumber(string.match(info, 'maxmemory:(%d+)')) or 0
  return string.format('%.0f', math.floor((most > 0 and most or 2 * USUAL_LIMIT) / part))
end

-- hr1_heartbeat(worker, worker expiry ms, lane limit, worker field count, worker fields…, card fields…)
--
-- Says that a worker lives, publishes its model's card, and makes the lane's stream and group where they are missing,
-- so that a flushed server heals. The group starts at 0: whatever is in the stream gets done. The worker's field
-- 'lane_bytes' is what a lane may take that has no limit of its own; 0, as without it, stands for half of the server's
-- memory. 'kept_bytes' is the same for the kept results of a lane, and a quarter. 'lane_tokens' is what a lane's requests
-- may have in prompt tokens, 0 for any; 'token_bytes' how many bytes a thousand tokens take, 'LANE=BYTES' for each lane.
-- Returns {Redis time in ms, length of the lane}.
register('hr1_heartbeat', ON_A_FULL_SERVER, function(key, args)
  local name, expiry, limit, count = args[1], whole(args[2]), whole(args[3]), whole(args[4])
  if not (name and is_name(name) and expiry and limit and count) then
    return
  elseif count % 2 == 1 or #args < 4 + count or #args % 2 == 1 then
    return
  end
  local made = redis.pcall('XGROUP', 'CREATE', key.work, GROUP, '0', 'MKSTREAM')
  if failed(made) and not string.find(made.err, 'BUSYGROUP', 1, true) then
    return made
  end
  local limits = redis.call('HGET', key.lanes, key.lane)
  if not (limits and string.find(limits, ',', 1, true)) then -- with a comma it is an operator's
    redis.call('HSET', key.lanes, key.lane, limit)
  end
  local said = { unpack(args, 5, 4 + count) }
  redis.call('SET', key.usual, share(said, 'lane_bytes', 2), 'PX', USUAL_MS)
  redis.call('SET', key.kept_limit, share(said, 'kept_bytes', 4), 'PX', USUAL_MS)
  note_tokens(key, said)
  local now, worker = milliseconds(), key.worker .. name
  clock_was_set_back(key, now, expiry)
  redis.call('ZADD', key.workers, now, name)
  redis.call('ZREMRANGEBYSCORE', key.workers, '-inf', now - expiry)
  redis.call('PEXPIRE', key.workers, expiry)
  redis.call('HSET', worker, 'seen_ms', now, unpack(args, 5, 4 + count))
  redis.call('PEXPIRE', worker, expiry)
  if #args > 4 + count then
    redis.call('HSET', key.card, unpack(args, 5 + count))
  end
  return { now, redis.call('XLEN', key.work) }
end)

-- hr1_leave(worker)
--
-- Takes a worker off the list and, when nothing is pending for it, its consumer out of the group. Deleting a consumer
-- with pending entries would strand them, so those wait for hr1_reclaim.
-- Returns the number of entries still pending for the worker.
register('hr1_leave', ON_A_FULL_SERVER, function(key, args)
  if #args ~= 1 or not is_name(args[1]) then
    return
  end
  redis.call('ZREM', key.workers, args[1])
  redis.call('UNLINK', key.worker .. args[1])
  local pending = redis.pcall('XPENDING', key.work, GROUP, '-', '+', 1, args[1])
  if failed(pending) then
    return 0
  end
  if #pending == 0 then
    redis.call('XGROUP', 'DELCONSUMER', key.work, GROUP, args[1])
  end
  return #pending
end)

-- hr1_reap(idle ms)
--
-- Takes consumers out of the group that are gone: not on the list of workers, idle for long, and with nothing pending,
-- which deleting them would strand. Returns how many.
register('hr1_reap', ON_A_FULL_SERVER, function(key, args)
  local longest, count = whole(args[1]), 0
  if #args ~= 1 or not longest then
    return
  end
  local consumers = redis.pcall('XINFO', 'CONSUMERS', key.work, GROUP)
  if failed(consumers) then
    return consumers
  end
  for _, one in ipairs(consumers) do
    local name, is_gone = field(one, 'name'), field(one, 'pending') == 0 and field(one, 'idle') > longest
    if is_gone and not redis.call('ZSCORE', key.workers, name) then
      redis.call('XGROUP', 'DELCONSUMER', key.work, GROUP, name)
      count = count + 1
    end
  end
  return count
end)

-- hr1_version()
--
-- Says of which version the functions are. It is no part of what hr1_heartbeat answers: a consumer of a release from
-- before there were versions ends itself where that has more than two members.
register('hr1_version', READS, function(key, args)
  return #args == 0 and VERSION or nil
end)
