-- Webhooks that are still to be delivered, in keys of their lane. Events of one request or batch (a subject) wait in a
-- list, so that they are delivered in order; subjects wait by host, so that a host that is slow or away delays no other:
--
--   hr:{model}:hooks:lane                     hosts, by when somebody may look at them next
--   hr:{model}:hooks:lane:q:host              subjects of a host, by when the next attempt is due
--   hr:{model}:hooks:lane:e:host:subject      events of a subject, the oldest first
--   hr:{model}:hooks:lane:p                   all subjects (host:subject), by when the oldest event began to wait
--   hr:{model}:hooks:lane:r                   'ENTRY ID' of later requests whose hook asks for request.running, in order
--   hr:{model}:hooks:lane:dlq                 events that were given up
--
-- When to look at a host next is even while it waits for its next attempt, and odd while somebody looks at it (a lease)
-- or it rests after it could not be reached: then a new event does not bring it forward.
--
-- A host is a hash of its name, and a subject is request:ID or batch:ID. An event is JSON: id (of the webhook), type,
-- at_ms, since_ms (when it began to wait), name (of the request or batch), hook (as the record keeps it, as text),
-- attempts, error (of the last attempt) and detail.
local function hooks_of(key, lane)
  return key.head .. 'hooks:' .. (lane or key.lane)
end

local function host_of(url)
  local host = string.match(url, '^https?://(%[[%x:.]+%])') or string.match(url, '^https?://([^/:?#]+)')
  return host and string.sub(redis.sha1hex(host), 1, 16)
end

local function waiting(ms)
  return ms - ms % 2
end

local function busy(ms)
  return ms + 1 - ms % 2
end

-- Says whether a lane may take another request or batch with a webhook. What has been admitted is never refused its
-- events, so the bound holds for what is admitted.
local function webhook_room(key, lane)
  return redis.call('ZCARD', hooks_of(key, lane) .. ':p') < HOOKS_CAP
end

-- Lets the keys of a lane's webhooks live on.
local function keep_hooks(place, host)
  redis.pcall('PEXPIRE', place, HOOKS_MS)
  redis.pcall('PEXPIRE', place .. ':p', HOOKS_MS)
  redis.pcall('PEXPIRE', place .. ':q:' .. host, HOOKS_MS)
end

-- Puts an event behind the others of its subject; the first one is due at once.
local MOST_EVENTS = 16

local function line_up(place, host, subject, event, now)
  local list = place .. ':e:' .. host .. ':' .. subject
  local count = redis.call('RPUSH', list, cjson.encode(event))
  if count > MOST_EVENTS then
    redis.call('RPOP', list)
    return false
  end
  redis.call('PEXPIRE', list, HOOKS_MS)
  if count == 1 then
    redis.call('ZADD', place .. ':q:' .. host, now, subject)
    redis.call('ZADD', place .. ':p', event.since_ms, host .. ':' .. subject)
    local at = tonumber(redis.call('ZSCORE', place, host) or 0)
    if at % 2 == 0 then
      redis.call('ZADD', place, waiting(now), host)
    end
  end
  keep_hooks(place, host)
  return true
end

-- webhook_event(key, lane, id, event, hook, detail)
--
-- Has an event of a request or batch delivered, if its hook asks for it. `hook` is the JSON of its record's field,
-- `detail` an optional table for the receiver. Says whether there is something to deliver.
local function webhook_event(key, lane, id, event, hook, detail)
  if not hook or hook == '' then
    return false
  end
  local fine, asked = pcall(cjson.decode, hook)
  if not fine or type(asked) ~= 'table' or type(asked.url) ~= 'string' or type(asked.events) ~= 'table' then
    return false
  end
  local wanted, host = false, host_of(asked.url)
  for _, one in ipairs(asked.events) do
    wanted = wanted or one == event
  end
  if not wanted or not host then
    return false
  end
  local kind, now = string.match(event, '^(%l+)%.%l+$'), milliseconds()
  local clock = redis.call('TIME')
  local name = table.concat({ key.head, lane, id, event, clock[1], clock[2] }, '/')
  return line_up(hooks_of(key, lane), host, kind .. ':' .. id, {
    id = 'msg_' .. string.sub(redis.sha1hex(name), 1, 32),
    type = event,
    at_ms = now,
    since_ms = now,
    name = id,
    hook = hook,
    attempts = 0,
    detail = detail,
  }, now)
end

-- Remembers that somebody is to hear when a consumer has the entry of a later request. Consumers claim without a
-- function, so front ends look, in hr1_webhook_claim.
local RUNNING = 'request.running'

local function awaits_running(hook)
  return hook and string.find(hook, RUNNING, 1, true) ~= nil
end

local function webhook_awaits(key, id, entry, hook)
  if awaits_running(hook) then
    local awaited = hooks_of(key) .. ':r'
    redis.call('ZADD', awaited, string.match(entry, '^%d+'), entry .. ' ' .. id)
    redis.call('PEXPIRE', awaited, HOOKS_MS)
  end
end

-- Has the end of a later request delivered; what it ran like does not matter any more.
local ENDS = { ok = 'request.succeeded', cancelled = 'request.cancelled', expired = 'request.expired' }

local function webhook_ended(key, id, entry, hook, code)
  if awaits_running(hook) then
    redis.call('ZREM', hooks_of(key) .. ':r', entry .. ' ' .. id)
  end
  webhook_event(key, key.lane, id, ENDS[code] or 'request.failed', hook, { code = code })
end

local function is_behind(entry, other)
  local ms, number = string.match(entry, '^(%d+)-(%d+)$')
  local other_ms, other_number = string.match(other, '^(%d+)-(%d+)$')
  ms, other_ms = tonumber(ms), tonumber(other_ms)
  return ms > other_ms or (ms == other_ms and tonumber(number) > tonumber(other_number))
end

-- Announces later requests that consumers have claimed.
local MOST_ANNOUNCED = 100

local function announce_running(key)
  local awaited = hooks_of(key) .. ':r'
  local found = redis.call('ZRANGE', awaited, 0, MOST_ANNOUNCED - 1)
  local groups, claimed = #found > 0 and redis.pcall('XINFO', 'GROUPS', key.work) or {}, '0-0'
  for _, group in ipairs(failed(groups) and {} or groups) do
    if field(group, 'name') == GROUP then
      claimed = field(group, 'last-delivered-id')
    end
  end
  for _, member in ipairs(found) do
    local entry, id = string.match(member, '^(%S+) (%S+)$')
    if is_behind(entry, claimed) then
      return
    end
    redis.call('ZREM', awaited, member)
    local state, hook = unpack(redis.call('HMGET', key.job .. id, 'state', 'hook'))
    if state == 'open' then
      webhook_event(key, key.lane, id, RUNNING, hook)
    end
  end
end

-- hr1_webhook_event((id, event, hook, detail)…)
--
-- Has events delivered; detail is a JSON object, or empty. Returns a status per item: 1, 0 (the hook does not ask for
-- it), or 'error …'.
register('hr1_webhook_event', ON_A_FULL_SERVER, function(key, args)
  if #args % 4 ~= 0 then
    return
  end
  return each(args, 1, 4, function(i)
    local id, event, hook, detail = unpack(args, i, i + 3)
    if not is_name(id) or not string.find(event, '^%l+%.%l+$') then
      return MALFORMED
    end
    local known = detail ~= '' and cjson.decode(detail) or nil
    return webhook_event(key, key.lane, id, event, hook, known) and 1 or 0
  end)
end)

-- hr1_webhook_room()
--
-- Returns 1 if the lane may take another request or batch with a webhook, else 0.
register('hr1_webhook_room', READS, function(key)
  return webhook_room(key) and 1 or 0
end)

-- hr1_webhook_claim(lease ms, most)
--
-- Leases up to so many hosts at which something may be due, for as long; nobody else gets them meanwhile.
-- Returns {now ms, subjects that wait, when the oldest began to (0 for none), token, host…}; the token proves the lease.
register('hr1_webhook_claim', ON_A_FULL_SERVER, function(key, args)
  local lease, most = whole(args[1]), whole(args[2])
  if not (lease and most) then
    return
  end
  local place, now = hooks_of(key), milliseconds()
  pcall(announce_running, key)
  local token, oldest = busy(now + lease), redis.call('ZRANGE', place .. ':p', 0, 0, 'WITHSCORES')[2]
  local answer = { now, redis.call('ZCARD', place .. ':p'), tonumber(oldest or 0), token }
  if most > 0 and oldest then
    for _, host in ipairs(redis.call('ZRANGE', place, '-inf', now, 'BYSCORE', 'LIMIT', 0, most)) do
      redis.call('ZADD', place, token, host)
      answer[#answer + 1] = host
    end
  end
  return answer
end)

local function holds(place, host, token)
  return tonumber(redis.call('ZSCORE', place, host) or -1) == token
end

-- Takes the first event of a subject away; the next one is due at once.
local function advance(place, host, subject, now)
  local list = place .. ':e:' .. host .. ':' .. subject
  redis.call('LPOP', list)
  local text = redis.call('LINDEX', list, 0)
  if text then
    redis.call('ZADD', place .. ':q:' .. host, now, subject)
    redis.call('ZADD', place .. ':p', cjson.decode(text).since_ms, host .. ':' .. subject)
  else
    redis.call('ZREM', place .. ':q:' .. host, subject)
    redis.call('ZREM', place .. ':p', host .. ':' .. subject)
  end
end

local function give_up(place, event, reason)
  event.error = reason
  local dead = place .. ':dlq'
  redis.call('XADD', dead, 'MAXLEN', HOOKS_DEAD_CAP, '*', 'event', cjson.encode(event))
  redis.call('PEXPIRE', dead, HOOKS_DEAD_MS)
end

-- Notes what became of an attempt to deliver the first event of a subject: 'done', 'again' (after so many ms) or 'dead'.
-- Nothing, if another event is the first by now: somebody else has delivered it.
local function note(place, host, subject, id, result, delay, reason, now)
  local list = place .. ':e:' .. host .. ':' .. subject
  local text = redis.call('LINDEX', list, 0)
  local event = text and cjson.decode(text)
  if not event or event.id ~= id then
    return 0
  end
  if result == 'again' then
    event.attempts, event.error = event.attempts + 1, reason
    redis.call('LSET', list, 0, cjson.encode(event))
    redis.call('ZADD', place .. ':q:' .. host, now + delay, subject)
    return 1
  end
  if result == 'dead' then
    event.attempts = event.attempts + 1
    give_up(place, event, reason)
  end
  advance(place, host, subject, now)
  return 1
end

-- Finds what is due at a host and not `busy`. What is older than its time is given up, after twice that also what nobody
-- has tried: its host could not be reached all the while.
local MOST_LOOKED_AT = 200

local function due_at(place, host, count, busy_ones, longest, now)
  local found, queue, due = {}, place .. ':q:' .. host, now + 1 -- as exact as the host's own time
  for _, subject in ipairs(redis.call('ZRANGE', queue, '-inf', due, 'BYSCORE', 'LIMIT', 0, MOST_LOOKED_AT)) do
    if #found >= 2 * count then
      break
    end
    local text = not busy_ones[subject] and redis.call('LINDEX', place .. ':e:' .. host .. ':' .. subject, 0)
    local fine, event = pcall(cjson.decode, text or '')
    event = fine and event
    local age = event and now - event.since_ms
    if event and age > (event.attempts > 0 and 1 or 2) * longest then
      give_up(place, event, 'not delivered in time; last: ' .. (event.error or 'its host could not be reached'))
      advance(place, host, subject, now)
    elseif event then
      found[#found + 1] = subject
      found[#found + 1] = text
    elseif not busy_ones[subject] then
      advance(place, host, subject, now)
    end
  end
  return found
end

-- hr1_webhook_step(host, token, lease ms, longest ms, count, pause ms, busy count, busy subjects…,
--                  (subject, webhook id, result, delay ms, reason)…)
--
-- Notes what became of attempts; then renews the lease of a host and gives up to `count` subjects that are due, each
-- with its first event, without those that the caller is busy with. With a pause that is not empty the lease ends, and
-- nobody looks at the host for so long.
-- Returns {events noted, new token or 0 (the lease is over), subject, event…}.
register('hr1_webhook_step', ON_A_FULL_SERVER, function(key, args)
  local host, token, lease, longest, count = args[1], whole(args[2]), whole(args[3]), whole(args[4]), whole(args[5])
  local pause, busy_count = args[6] ~= '' and whole(args[6] or '') or nil, whole(args[7] or '')
  if not (token and lease and longest and count and busy_count) or not string.find(host, '^%x+$') then
    return
  end
  local first = 8 + busy_count
  if first > #args + 1 or (#args + 1 - first) % 5 ~= 0 then
    return
  end
  local place, now, noted, busy_ones = hooks_of(key), milliseconds(), 0, {}
  for i = 8, first - 1 do
    busy_ones[args[i]] = true
  end
  for i = first, #args, 5 do
    local subject, id, result, delay, reason = unpack(args, i, i + 4)
    local fine, counted = pcall(note, place, host, subject, id, result, whole(delay) or 0, reason, now)
    noted = noted + (fine and counted or 0)
  end
  if not holds(place, host, token) then
    return { noted, 0 }
  end
  keep_hooks(place, host)
  if not pause then
    local found = due_at(place, host, count, busy_ones, longest, now)
    redis.call('ZADD', place, busy(now + lease), host)
    return { noted, busy(now + lease), unpack(found) }
  end
  local next_at = redis.call('ZRANGE', place .. ':q:' .. host, 0, 0, 'WITHSCORES')[2]
  if next_at then
    redis.call('ZADD', place, pause > 0 and busy(now + pause) or waiting(tonumber(next_at)), host)
  else
    redis.call('ZREM', place, host)
  end
  return { noted, 0 }
end)

-- hr1_webhook_retry(letter…)
--
-- Has events delivered that were given up, from the first attempt on, behind later ones of their subjects.
-- Returns a status per item: 1, 'gone', or 'error …'.
register('hr1_webhook_retry', ON_A_FULL_SERVER, function(key, args)
  local place, now = hooks_of(key), milliseconds()
  return each(args, 1, 1, function(i)
    local fields = is_entry(args[i]) and entry_of(place .. ':dlq', args[i])
    if not fields then
      return 'gone'
    end
    local event = cjson.decode(field(fields, 'event'))
    event.attempts, event.since_ms = 0, now
    local host, kind = host_of(cjson.decode(event.hook).url), string.match(event.type, '^%l+')
    if not line_up(place, host, kind .. ':' .. event.name, event, now) then
      return 'error too many events of it wait'
    end
    redis.call('XDEL', place .. ':dlq', args[i])
    return 1
  end)
end)
