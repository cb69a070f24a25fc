-- The calls about later requests; later.lua says what is stored of them.

-- hr1_later(limit, (id, asked, ttl ms, keep ms, fingerprint, request, hook, message)…)
--
-- Puts later requests into the lane as hr1_admit does, each with its record. asked '1': the client made the id, so
-- there may be such a request already; '0': nobody can have used the id before.
-- Returns {length of the lane, status…}; a status is 'ENTRY POSITION' (the place among the lane's open later requests),
-- 'known' (there is a record of this id, and what was sent is the same), 'differs' (it is not), 'taken' (the id is that
-- of a request of another kind), 'full', 'results_full' (the results take all the bytes they may),
-- 'webhooks_full' (too many of the lane's webhooks wait to be delivered), 'absent' or
-- 'error …'.
register('hr1_later', WRITES, function(key, args)
  local limit = whole(args[1])
  if not limit or #args % 8 ~= 1 then
    return
  end
  local length, need, longest = redis.call('XLEN', key.work), 0, 0
  if length >= limit and length > 0 then
    local fine, dropped = pcall(drop_expired, key)
    length = length - (fine and dropped or 0)
  end
  for i = 9, #args, 8 do
    need = need + #args[i]
  end
  local left, takes_some, token_left = room_for_requests(key, length, need)
  -- where no large result has room any more the account is full
  local has_kept_room, added, open = kept_room(key, LARGE) >= math.min(LARGE, kept_limit(key)), later_counts(key)
  local opened = { now = milliseconds(), seq = added }
  local answer = each(args, 2, 8, function(i)
    local id, asked, ttl, keep, print, request, hook, message = unpack(args, i, i + 7)
    ttl, keep = whole(ttl), whole(keep)
    if not (is_name(id) and ttl and keep and keep > 0) or (print ~= '' and not is_name(print)) then
      return MALFORMED
    end
    if asked ~= '0' then
      local state, had = unpack(redis.call('HMGET', key.job .. id, 'state', 'print'))
      if state then
        return print ~= '' and had ~= '' and had ~= print and 'differs' or 'known'
      end
      local entry = under_way(key, id)
      if redis.call('EXISTS', key.reply .. id) == 1 or (entry and entry_of(key.work, entry)) then
        return 'taken'
      end
    end
    if not has_kept_room then
      return 'results_full'
    elseif hook ~= '' and not webhook_room(key) then
      return 'webhooks_full'
    elseif length >= limit or (#message > left and takes_some) or (#message > token_left and length > 0) then
      return 'full'
    end
    local entry = redis.call('XADD', key.work, 'NOMKSTREAM', '*', 'm', message)
    if not entry then
      return 'absent'
    end
    length, left, takes_some, open = length + 1, left - #message, true, open + 1
    token_left = token_left - #message
    longest = math.max(longest, ttl + keep + MARGIN_MS)
    later_opened(key, opened, id, entry, ttl, keep, 'print', print, 'request', request, 'hook', hook)
    if hook ~= '' then
      pcall(webhook_event, key, key.lane, id, 'request.queued', hook)
      pcall(webhook_awaits, key, id, entry, hook)
    end
    return entry .. ' ' .. open
  end)
  open_all(key, opened)
  if longest > 0 then
    keep_open(key, longest)
  end
  table.insert(answer, 1, length)
  return answer
end)

-- hr1_job(id…)
--
-- Says how later requests stand. Only reads.
-- Returns for each a list of fields and values: those of its record, and for one that is open 'position' or, once a
-- consumer has it, 'claimed'. The list of one that is not known is empty.
register('hr1_job', READS, function(key, args)
  local added, open = later_counts(key)
  return each(args, 1, 1, function(i)
    if not is_name(args[i]) then
      return 'error the id is not a valid name'
    end
    local found = redis.call('HGETALL', key.job .. args[i])
    if field(found, 'state') == 'open' then
      local entry = field(found, 'entry')
      local row = redis.pcall('XPENDING', key.work, GROUP, entry, entry, 1)
      local is_claimed = not failed(row) and #row > 0
      found[#found + 1] = is_claimed and 'claimed' or 'position'
      found[#found + 1] = is_claimed and 1 or math.max(1, field(found, 'seq') - added + open)
    end
    return found
  end)
end)

-- hr1_line()
--
-- Says how far the lane's later requests have come, for all that wait in it at once. Only reads.
-- Returns {how many there have been, how many of these are open, the last entry that a consumer has claimed, bytes of
-- the kept results, the limit of these}. The place of the one with the number seq is seq less those that have ended.
register('hr1_line', READS, function(key, args)
  if #args ~= 0 then
    return
  end
  local added, open = later_counts(key)
  local groups, claimed = redis.pcall('XINFO', 'GROUPS', key.work), '0-0'
  for _, group in ipairs(failed(groups) and {} or groups) do
    if field(group, 'name') == GROUP then
      claimed = field(group, 'last-delivered-id')
    end
  end
  return { added, open, claimed, stored_bytes(kept_account(key)), kept_limit(key) }
end)

-- hr1_overdue(most)
--
-- Ends later requests whose deadline has passed while no consumer had them, at most so many, and tidies the account of
-- kept results. One that a consumer has is looked at again a minute later; one whose entry is gone, as after an operator
-- has emptied the lane, ends as 'unknown_outcome'.
-- Returns {how many it ended, how many are open, bytes of the kept results}.
local AGAIN_MS, FIRST_DEADLINE = 60000, 1000000000000

register('hr1_overdue', ON_A_FULL_SERVER, function(key, args)
  local most = whole(args[1])
  if #args ~= 1 or not most then
    return
  end
  local now, count = milliseconds(), 0
  local due = redis.call('ZRANGEBYSCORE', key.open, FIRST_DEADLINE, now, 'LIMIT', 0, most)
  for _, id in ipairs(due) do
    local entry = later_entry(key, id)
    local row = entry and redis.pcall('XPENDING', key.work, GROUP, entry, entry, 1)
    if not entry then
      redis.call('ZREM', key.open, id)
    elseif not failed(row) and #row > 0 then
      redis.call('ZADD', key.open, now + AGAIN_MS, id)
    else
      local was_there = redis.call('XDEL', key.work, entry) == 1
      later_ended(key, id, was_there and 'expired' or 'unknown_outcome')
      count = count + 1
    end
  end
  local account = kept_account(key)
  pcall(tidy, account)
  local _, open = later_counts(key)
  return { count, open, stored_bytes(account) }
end)
