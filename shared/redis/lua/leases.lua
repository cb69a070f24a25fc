-- hr1_renew(worker, entry…)
--
-- Keeps the leases of those entries that the worker still owns: their idle time starts anew, their count of deliveries
-- stays. Returns those it does not own any more.
register('hr1_renew', ON_A_FULL_SERVER, function(key, args)
  local worker, owned = args[1], {}
  if not (worker and is_name(worker)) then
    return
  end
  local pending = redis.pcall('XPENDING', key.work, GROUP, '-', '+', 1000000, worker)
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
  in_chunks(kept, function(...)
    local command = { 'XCLAIM', key.work, GROUP, worker, 0, ... }
    command[#command + 1] = 'JUSTID'
    redis.call(unpack(command))
  end)
  return lost
end)

-- Gives claimed entries with their messages: {entry, deliveries, message or false}…; takes the deleted ones out of the
-- group's list.
local function with_messages(key, rows)
  local answer = {}
  for _, row in ipairs(rows) do
    local fields = entry_of(key.work, row[1])
    if not fields then
      redis.call('XACK', key.work, GROUP, row[1])
    else
      answer[#answer + 1] = { row[1], row[4], field(fields, 'm') or false }
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
register('hr1_reclaim', ON_A_FULL_SERVER, function(key, args)
  local idle, count = whole(args[2]), whole(args[3])
  if #args ~= 3 or not is_name(args[1]) or not (idle and count) then
    return
  end
  local rows = redis.pcall('XPENDING', key.work, GROUP, 'IDLE', idle, '-', '+', count)
  if failed(rows) then
    return rows
  end
  for _, row in ipairs(rows) do
    redis.call('XCLAIM', key.work, GROUP, args[1], 0, row[1], 'JUSTID')
  end
  return with_messages(key, rows)
end)

-- hr1_claimed(worker, after entry, count)
--
-- What the worker holds behind an entry, without counting a delivery, as XREADGROUP would. After a lost connection:
-- the server may have claimed entries for the worker whose answer was lost.
-- Returns {entry, deliveries so far, message or false}…, deleted entries excepted, and in front the last entry looked
-- at, empty when there was none.
register('hr1_claimed', ON_A_FULL_SERVER, function(key, args)
  local count = whole(args[3])
  if #args ~= 3 or not is_name(args[1]) or not count or not is_entry(args[2]) then
    return
  end
  local rows = redis.pcall('XPENDING', key.work, GROUP, '(' .. args[2], '+', count, args[1])
  if failed(rows) and string.find(rows.err, 'invalid start ID', 1, true) then
    rows = {} -- nothing lies behind the highest id there is, which anybody who may add can give an entry
  end
  if failed(rows) then
    return rows
  end
  local answer = with_messages(key, rows)
  table.insert(answer, 1, #rows > 0 and rows[#rows][1] or '')
  return answer
end)

-- hr1_begin(worker, entry, deliveries)
--
-- Counts one more delivery, just before an entry runs alone. Returns 1, or 0 when the worker does not own it any more.
register('hr1_begin', ON_A_FULL_SERVER, function(key, args)
  local deliveries = whole(args[3])
  if #args ~= 3 or not is_name(args[1]) or not deliveries or not is_entry(args[2]) then
    return
  end
  local row = redis.pcall('XPENDING', key.work, GROUP, args[2], args[2], 1, args[1])
  if failed(row) then
    return row
  end
  if #row == 0 then
    return 0
  end
  return #redis.call('XCLAIM', key.work, GROUP, args[1], 0, args[2], 'RETRYCOUNT', deliveries, 'JUSTID')
end)
