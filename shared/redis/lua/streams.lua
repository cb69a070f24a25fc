-- Streams: the parts of answers that are still being made, such as the text of a language model.
--
-- A generation's record, hr:{model}:g:lane:id, is a stream of its own with one frame per entry. Frame number n has the
-- id (n+1)-0, so its length is the number of the next frame, and whoever knows how far he has read knows where to go on.
-- Its first entry says to which entry of the work stream it belongs (an id may be asked for again) and when it began.

local function record_of(key, id)
  return key.head .. 'g:' .. key.lane .. ':' .. id
end

-- Deletes the record of a request that was taken back or starts afresh.
local function forget_record(key, id)
  redis.pcall('UNLINK', record_of(key, id))
end

local function owns(key, worker, entry)
  local rows = redis.pcall('XPENDING', key.work, GROUP, entry, entry, 1)
  return not failed(rows) and #rows > 0 and rows[1][2] == worker -- where there is no group, nobody owns anything
end

-- Says whether a first frame may be written. A record that is there is another entry's, or this call is a repeat; one
-- whose entry has ended stands in nobody's way. What has been answered needs no frames.
local function may_begin(key, record, entry, id)
  if redis.call('EXISTS', key.reply .. id) == 1 then
    return false, 'taken'
  end
  local first = redis.call('XRANGE', record, '-', '+', 'COUNT', 1)[1]
  if not first then
    return true
  end
  local whose = field(first[2], 'entry')
  if whose == entry then
    return false, 2
  elseif whose and is_entry(whose) and entry_of(key.work, whose) then
    return false, 'taken'
  end
  redis.call('UNLINK', record)
  return true
end

-- Writes one frame into its record. Only the owner of the entry gets here, so nobody else writes meanwhile.
local function write_frame(key, record, entry, id, seq, frame)
  if seq == 0 then
    local may, status = may_begin(key, record, entry, id)
    if may then
      redis.call('XADD', record, '1-0', 'f', frame, 'entry', entry, 'at', milliseconds())
    end
    return status or 1
  end
  local written = redis.call('XLEN', record)
  if written ~= seq then
    return written > seq and 2 or 'gone'
  end
  redis.call('XADD', record, 'NOMKSTREAM', string.format('%.0f-0', seq + 1), 'f', frame)
  return 1
end

-- hr1_emit(worker, stream cap, stream expiry ms, (entry, id, instance, expiry ms, seq, frame)…)
--
-- Writes frames, each once, into the records of generations that the worker holds, and hints at them: all that go to one
-- instance stand one behind the other in the field f of one entry of its reply stream. With an empty instance a frame is
-- written only. An expiry that is not 0 lets the record live so long from now on.
-- Returns a status per item: 1 written, 2 it was there before, 0 the entry is not the worker's any more, 'taken' (the id
-- is answered, or another entry of this id writes the record), 'gone' (frames before this one are missing), or 'error …'.
register('hr1_emit', WRITES, function(key, args)
  local worker, cap, stream_expiry = args[1], whole(args[2]), whole(args[3])
  if not (worker and is_name(worker) and cap and stream_expiry) or (#args - 3) % 6 ~= 0 then
    return
  end
  local frames, instances = {}, {}
  local answer = each(args, 4, 6, function(i)
    local entry, id, instance, expiry, seq, frame = unpack(args, i, i + 5)
    expiry, seq = whole(expiry), whole(seq)
    if not (is_entry(entry) and is_name(id) and is_name_or_empty(instance) and expiry and seq and expiry + seq > 0) then
      return MALFORMED -- a first frame makes the record, which must go by itself
    elseif not owns(key, worker, entry) then
      return 0
    end
    local record = record_of(key, id)
    local status = write_frame(key, record, entry, id, seq, frame)
    if status ~= 1 then
      return status
    end
    if expiry > 0 then
      redis.call('PEXPIRE', record, expiry)
    end
    if instance ~= '' then
      if not frames[instance] then
        frames[instance] = {}
        instances[#instances + 1] = instance
      end
      table.insert(frames[instance], frame)
    end
    return 1
  end)
  for _, instance in ipairs(instances) do
    local stream = key.stream .. instance
    redis.pcall('XADD', stream, 'MAXLEN', '~', cap, '*', 'f', table.concat(frames[instance]))
    redis.pcall('PEXPIRE', stream, stream_expiry)
  end
  return answer
end)

-- hr1_hand_over(worker, idle ms, entry…)
--
-- Lets the leases of entries end at once that the worker still owns, so that another one takes them over and goes on
-- with what their records hold. Their count of deliveries begins anew: they did not end this worker.
-- Returns how many.
register('hr1_hand_over', ON_A_FULL_SERVER, function(key, args)
  local worker, idle, count = args[1], whole(args[2]), 0
  if not (worker and is_name(worker) and idle) then
    return
  end
  for i = 3, #args do
    if is_entry(args[i]) and owns(key, worker, args[i]) then
      local command = { 'XCLAIM', key.work, GROUP, worker, 0, args[i], 'IDLE', idle, 'RETRYCOUNT', 1, 'JUSTID' }
      count = count + #redis.call(unpack(command))
    end
  end
  if count > 0 then -- consumers read this all the time, and look for what they may take over
    redis.pcall('XADD', key.ends, 'MAXLEN', '~', ENDS_CAP, '*', 'handed', count)
    redis.pcall('PEXPIRE', key.ends, ENDS_MS)
  end
  return count
end)
