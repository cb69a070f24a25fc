-- Later requests: those whose answer a client fetches later, by their id. Each has a record, hr:{M}:j:lane:ID, from its
-- admission until its result is no longer kept. Its entry waits for no instance but LATER, so whatever ends the entry
-- knows, without a look at the record, that there is one.
--
-- Fields of a record: state ('open'; then 'done', 'failed', 'cancelled' or 'expired'), code (how it ended, as in a
-- reply), entry, seq (its number among the lane's later requests), added_ms, ended_ms, deadline_ms, keep_ms, print (the
-- fingerprint of what was sent), request (what the front end needs to encode the result), hook (whom to notify).
--
-- hr:{M}:jo:lane holds those that are open by their deadline; the member with the empty name counts how many there have
-- been. The bytes of kept results have an account of their own, hr:{M}:jb:lane, apart from the lane's.

local STATES = { ok = 'done', cancelled = 'cancelled', expired = 'expired' }
local MARGIN_MS = 3600000 -- what may run longer than its deadline, or be taken over, has its record for so long

-- What the functions for bytes need to know of an account: here that of the kept results.
local function kept_account(key)
  return { work = key.work, reply = key.reply, stored = key.kept }
end

local function kept_limit(key)
  return whole(redis.call('GET', key.kept_limit)) or USUAL_LIMIT / 2
end

-- How many bytes more of results the lane may keep.
local function kept_room(key, need)
  local account = kept_account(key)
  local stored = stored_bytes(account)
  local limit = kept_limit(key)
  if stored > 0 and stored + need > limit then
    tidy(account)
    stored = stored_bytes(account)
  end
  return limit - stored
end

-- What a reply says of how its request ended. Names have no byte like those looked for.
local function code_of(reply)
  if string.find(string.sub(reply, 1, 100), '\162ok\195', 1, true) then
    return 'ok'
  end
  return string.match(reply, '\165error[\128-\143]\164code[\160-\191]([%l_]+)') or 'internal'
end

-- Ends a later request, if there is an open one of this id: in its record, and for all that listen.
-- A call that ends many gives `ended`, whose ids later_settled takes off the list at once.
local function later_ended(key, id, code, ended)
  local place = key.job .. id
  local state, keep, entry, hook = unpack(redis.call('HMGET', place, 'state', 'keep_ms', 'entry', 'hook'))
  if state ~= 'open' then
    return false
  end
  redis.call('HSET', place, 'state', STATES[code] or 'failed', 'code', code, 'ended_ms', ended and ended.now or milliseconds())
  redis.call('PEXPIRE', place, keep)
  redis.call('XADD', key.job_ends, 'MAXLEN', '~', ENDS_CAP, '*', 'id', id, 'code', code)
  if ended then
    ended[#ended + 1] = id
  else
    redis.call('ZREM', key.open, id)
    redis.call('PEXPIRE', key.job_ends, ENDS_MS)
  end
  if hook and hook ~= '' then
    pcall(webhook_ended, key, id, entry, hook, code)
  end
  return true
end

local function later_settled(key, ended)
  if #ended > 0 then
    in_chunks(ended, function(...) redis.pcall('ZREM', key.open, ...) end)
    redis.pcall('PEXPIRE', key.job_ends, ENDS_MS)
  end
end

-- Enters a later request as open that was just added as this entry. `opened` collects what open_all lists at once: how
-- many there have been, and deadlines and ids.
local function later_opened(key, opened, id, entry, ttl, keep, ...)
  local now, place = opened.now, key.job .. id
  opened.seq = opened.seq + 1
  opened[#opened + 1], opened[#opened + 2] = now + ttl, id
  redis.call(
    'HSET', place, 'state', 'open', 'entry', entry, 'seq', opened.seq, 'added_ms', now, 'deadline_ms', now + ttl,
    'keep_ms', keep, ...
  )
  redis.call('PEXPIRE', place, ttl + keep + MARGIN_MS)
end

local function open_all(key, opened)
  if #opened > 0 then
    opened[#opened + 1], opened[#opened + 2] = opened.seq, ''
    in_chunks(opened, function(...) redis.call('ZADD', key.open, ...) end)
  end
end

-- Lets the list of open ones live at least so long.
local function keep_open(key, longest)
  redis.call('PEXPIRE', key.open, longest, 'NX')
  redis.call('PEXPIRE', key.open, longest, 'GT')
end

-- Opens a later request anew that had ended, as its dead letter is put back.
local function later_reopened(key, id, entry)
  local keep, added, deadline = unpack(redis.call('HMGET', key.job .. id, 'keep_ms', 'added_ms', 'deadline_ms'))
  if keep then
    redis.call('HDEL', key.job .. id, 'code', 'ended_ms')
    local opened = { now = milliseconds(), seq = tonumber(redis.call('ZSCORE', key.open, '')) or 0 }
    later_opened(key, opened, id, entry, deadline - added, keep)
    open_all(key, opened)
    keep_open(key, deadline - added + keep + MARGIN_MS)
  end
end

-- The entry of an open later request, nil where there is none.
local function later_entry(key, id)
  local state, entry = unpack(redis.call('HMGET', key.job .. id, 'state', 'entry'))
  return state == 'open' and entry or nil
end

-- Notes that an entry has another id now, as its lane was made anew.
local function later_moved(key, message, entry)
  local request = members(message)
  if request.rt == LATER and later_entry(key, request.id) then
    redis.call('HSET', key.job .. request.id, 'entry', entry)
  end
end

-- How many of the lane's later requests have been open, and how many are.
local function later_counts(key)
  local added = tonumber(redis.call('ZSCORE', key.open, '')) or 0
  return added, added > 0 and redis.call('ZCARD', key.open) - 1 or 0
end
