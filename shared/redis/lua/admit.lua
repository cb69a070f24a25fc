-- Deletes what waits at the head of the lane although its deadline has passed, at most so much, so that a call stays
-- short. What consumers have claimed is theirs. Returns how many.
local MOST_DROPPED = 32

local function drop_expired(key)
  local groups, after = redis.call('XINFO', 'GROUPS', key.work), '0-0'
  for _, group in ipairs(groups) do
    if field(group, 'name') == GROUP then
      after = field(group, 'last-delivered-id')
    end
  end
  local now, count = milliseconds(), 0
  while count < MOST_DROPPED do
    local row = redis.call('XRANGE', key.work, '(' .. after, '+', 'COUNT', 1)[1]
    if not row then
      break
    end
    local request, added = members(field(row[2], 'm') or ''), string.match(row[1], '^(%d+)')
    -- an id with more digits is no time, and no whole number in Lua
    if #added > 15 or type(request.ttl_ms) ~= 'number' or added + request.ttl_ms > now then
      break
    end
    redis.call('XDEL', key.work, row[1])
    local id = type(request.id) == 'string' and request.id or ''
    announce(key, row[1], id, 'expired')
    if request.keep_ms then
      pcall(later_ended, key, id, 'expired')
    end
    after, count = row[1], count + 1
  end
  return count
end

-- What is known of an id: a status, or nothing, and then the time to live, expiry and fingerprint to remember.
local function look_up(key, id, check)
  local ttl, expiry, print = string.match(check, '^1:(%d+):(%d+):([%w_-]*)$')
  ttl, expiry = whole(ttl), whole(expiry)
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
  if entry and tonumber(deadline) > milliseconds() + ttl / 10 and entry_of(key.work, entry) then
    return differs and 'differs' or 'joined ' .. entry
  end
  return nil, ttl, expiry, print
end

-- Deletes the replies that a front end has delivered, and trims its reply stream.
local function forget_delivered(key, args, acks)
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
end

-- hr1_admit(limit, instance, cursor, acknowledged count, item count, acknowledged ids…, (id, check, message)…)
--
-- Puts requests into the lane. In passing it deletes the replies that this front end has delivered (ids it made up
-- itself) and trims its reply stream to the cursor, so that memory stays flat. In a lane that is full, what has expired
-- at its head makes room first. A lane is full by the number of its requests, by the bytes of these and of the stored
-- replies, or by their prompt tokens if it has a limit of these.
-- check '1': answer 'answered' when the reply of that id is already there.
-- check '1:ttl ms:expiry ms:fingerprint': besides, while an entry of that id is under way, no second one is added; that
-- it is under way is remembered for the expiry. Where both fingerprints are given, they must be the same.
-- Returns {length of the lane, status…}; a status is the entry's id, 'answered', 'joined …' (the id of the entry that is
-- under way), 'differs' (another fingerprint), 'full', 'absent' (no such stream) or 'error …'.
register('hr1_admit', WRITES, function(key, args)
  local limit, acks, items = whole(args[1]), whole(args[4]), whole(args[5])
  if not (limit and acks and items) or #args ~= 5 + acks + 3 * items then
    return
  end
  forget_delivered(key, args, acks)
  local first, length = 6 + acks, redis.call('XLEN', key.work)
  if length >= limit and length > 0 then
    local fine, dropped = pcall(drop_expired, key)
    length = length - (fine and dropped or 0)
  end
  local need = 0
  for i = first + 2, #args, 3 do
    need = need + #args[i]
  end
  local left, takes_some, token_left = math.huge, true, math.huge
  if items > 0 then
    local fine
    fine, left, takes_some, token_left = pcall(room_for_requests, key, length, need)
    if not fine then -- it may not look, or what it looked at is not ours
      left, token_left = math.huge, math.huge
    end
  end
  local answer = each(args, first, 3, function(i)
    local id, check, message = args[i], args[i + 1], args[i + 2]
    local status, ttl, expiry, print
    if not is_name(id) then
      status = 'error the id is not a valid name'
    elseif check ~= '0' then
      status, ttl, expiry, print = look_up(key, id, check)
    end
    if status then
      return status
    elseif length >= limit or (#message > left and takes_some) or (#message > token_left and length > 0) then
      return 'full'
    end
    local entry = redis.call('XADD', key.work, 'NOMKSTREAM', '*', 'm', message)
    if not entry then
      return 'absent'
    end
    length, left, takes_some, token_left = length + 1, left - #message, true, token_left - #message
    if ttl then
      redis.pcall('SET', key.flight .. id, entry .. ' ' .. milliseconds() + ttl .. ' ' .. print, 'PX', expiry)
    end
    return entry
  end)
  table.insert(answer, 1, length)
  return answer
end)
