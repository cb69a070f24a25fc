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

-- Ends the call with an error, before anything has changed, if its user may not do all that putting letters back takes:
-- a request would be in its lane, and a letter all the same. Both commands name what is never there.
local function check_rights(key)
  redis.call('XDEL', key.dead, '0-0')
  redis.call('UNLINK', key.reply, key.flight)
end

-- Puts a letter back into its lane; returns the new entry's id.
local function put_back(key, letter, id, message)
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
end

-- hr1_requeue((letter, id)…)
--
-- Puts dead letters back into their lane, each with a fresh deadline. An older reply to the id and what is remembered of
-- it are forgotten, so that it starts afresh. An empty id has neither.
-- Returns a status per item: the new entry's id, 'gone' (there is no such letter), or 'error …'.
register('hr1_requeue', ON_A_FULL_SERVER, function(key, args)
  if #args % 2 == 1 then
    return
  end
  check_rights(key)
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
    return put_back(key, letter, id, message)
  end)
end)

-- Of a message so many values are looked at for what a letter says of itself, and of the letters so many bytes at once.
local LETTER_VALUES, LETTERS_BYTES = 64, 2097152

-- The id of a letter's request, empty where it cannot be read.
local function letter_id(fields, said)
  for _, id in ipairs{ field(fields, 'id') or '', type(said.id) == 'string' and said.id or '' } do
    if is_name(id) then
      return id
    end
  end
  return ''
end

-- hr1_requeue_within(limit, letter…)
--
-- As hr1_requeue, for a lane that is not to be flooded: what would fill it beyond so many requests, or beyond its limits
-- in bytes and tokens, stays a dead letter. The ids are found here.
-- Returns {length of the lane, status…}; a status is the new entry's id, 'gone', 'full' (no room now), 'later' (enough
-- for one call), or 'error …'.
register('hr1_requeue_within', WRITES, function(key, args)
  local limit = whole(args[1])
  if not limit then
    return
  end
  check_rights(key)
  local length, moved, is_full = redis.call('XLEN', key.work), 0, false
  local fine, left, takes_some, token_left = pcall(room_for_requests, key, length, 0)
  if not fine then
    left, token_left = math.huge, math.huge
  end
  local answer = each(args, 2, 1, function(i)
    local letter = args[i]
    if not is_entry(letter) then
      return MALFORMED
    elseif is_full or moved >= LETTERS_BYTES then
      return is_full and 'full' or 'later'
    end
    local fields = entry_of(key.dead, letter)
    local message = fields and field(fields, 'm')
    if not message then
      return fields and 'error the letter has no message' or 'gone'
    elseif length >= limit or (#message > left and takes_some) or (#message > token_left and length > 0) then
      is_full = true
      return 'full'
    end
    local entry = put_back(key, letter, letter_id(fields, members(message, LETTER_VALUES)), message)
    length, moved, takes_some = length + 1, moved + #message, true
    left, token_left = left - #message, token_left - #message
    return entry
  end)
  if known[key.stored] then
    known[key.stored].left = known[key.stored].left - moved
  end
  table.insert(answer, 1, length)
  return answer
end)

-- hr1_letters(order, from, count)
--
-- Says what a lane's dead letters are, without their messages, the 'newest' or the 'oldest' first. `from` is the first
-- one, as XRANGE takes it. Only reads.
-- Returns {more, {letter, reason, crashes, request id, bytes of the message, content type}…}; more is 1 where letters
-- were left out that would have been too many bytes to look at in one call.
register('hr1_letters', READS, function(key, args)
  local order, from, count = args[1], args[2], whole(args[3])
  if #args ~= 3 or not count or not string.find(from, '^%(?%d+%-%d+$') and from ~= '-' and from ~= '+' then
    return
  end
  local answer, looked = { 0 }, 0
  while #answer <= count do
    local most, rows = math.min(8, count + 1 - #answer), nil
    if order == 'newest' then
      rows = redis.call('XREVRANGE', key.dead, from, '-', 'COUNT', most)
    else
      rows = redis.call('XRANGE', key.dead, from, '+', 'COUNT', most)
    end
    for _, row in ipairs(rows) do
      local message = field(row[2], 'm') or ''
      local said = members(message, LETTER_VALUES)
      local content_type = type(said.ct) == 'string' and said.ct or ''
      local reason, crashes = field(row[2], 'reason') or '', field(row[2], 'crashes') or ''
      answer[#answer + 1] = {
        row[1], string.sub(reason, 1, 200), string.sub(crashes, 1, 20), letter_id(row[2], said), #message, content_type,
      }
      looked, from = looked + #message, '(' .. row[1]
    end
    if #rows < most then
      break
    elseif looked >= LETTERS_BYTES then
      answer[1] = 1
      break
    end
  end
  return answer
end)
