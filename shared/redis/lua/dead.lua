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

-- hr1_dead(stream cap, stream expiry ms, hint limit bytes, most dead letters, most bytes of them,
--          (entry, id, instance, expiry ms, reply, reason, crashes)…)
--
-- Ends requests as dead letters: like commit, and the message goes to the lane's dead letters with the reason. An
-- empty id has no reply. Both bounds drop the oldest letters; 'sum' in each is the bytes of all messages up to it,
-- so that their total is known without looking at all of them.
-- A letter that cannot be added is lost, and its status an error; the request has ended all the same.
-- Returns a status per item: 1 done by this call, 0 not ours any more, 2 the id was answered before, or 'error …'.
register('hr1_dead', ON_A_FULL_SERVER, function(key, args)
  for i = 1, 5 do
    if not whole(args[i]) then
      return
    end
  end
  local most, most_bytes = whole(args[4]), whole(args[5])
  if (#args - 5) % 7 ~= 0 or most == 0 then -- a bound of none would drop the letter and strand its entry
    return
  end
  local call = ending(whole(args[1]), whole(args[2]), whole(args[3]))
  local answer = each(args, 6, 7, function(i)
    local entry, id, instance, expiry, reply, reason, crashes = unpack(args, i, i + 6)
    expiry = whole(expiry)
    if not (is_entry(entry) and is_name_or_empty(id) and is_name_or_empty(instance) and expiry and whole(crashes)) then
      return MALFORMED
    end
    local fields = entry_of(key.work, entry)
    local ours = redis.call('XACK', key.work, GROUP, entry) == 1
    local trouble
    if ours and fields then
      -- It is acknowledged, so nobody gets it again: it ends and its sender hears of it, whatever the letter meets.
      local message = field(fields, 'm') or ''
      trouble = status_of(pcall(add_letter, key.dead, most, most_bytes, entry, id, message, reason, crashes))
      redis.pcall('XDEL', key.work, entry)
      if id ~= '' then
        forget_record(key, id)
      end
    end
    local status = ours and 1 or 0
    if id ~= '' then
      status = publish(key, call, ours, entry, id, instance, expiry, reply)
    end
    return trouble and 'error adding the dead letter: ' .. string.sub(trouble, #'error ' + 1) or status
  end)
  settle(key, call)
  return answer
end)

-- hr1_requeue((letter, id)…)
--
-- Puts dead letters back into their lane, each with a fresh deadline. An older reply to the id and what is remembered of
-- it are forgotten, so that it starts afresh. An empty id has neither.
-- Returns a status per item: the new entry's id, 'gone' (there is no such letter), or 'error …'.
register('hr1_requeue', ON_A_FULL_SERVER, function(key, args)
  if #args % 2 == 1 then
    return
  end
  return each(args, 1, 2, function(i)
    local letter, id = args[i], args[i + 1]
    if not (is_entry(letter) and is_name_or_empty(id)) then
      return MALFORMED
    end
    local fields = entry_of(key.dead, letter)
    if not fields then
      return 'gone'
    end
    local message = field(fields, 'm')
    if not message then
      return 'error the letter has no message'
    end
    -- A lane that is not set up is made: its consumers begin at the very start.
    local entry = redis.call('XADD', key.work, '*', 'm', message)
    if id ~= '' then
      redis.call('UNLINK', key.reply .. id, key.flight .. id)
      pcall(forget, key, id)
      forget_record(key, id)
      pcall(later_reopened, key, id, entry)
    end
    redis.call('XDEL', key.dead, letter)
    return entry
  end)
end)
