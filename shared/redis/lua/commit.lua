-- What the calls that end requests have in common: what they hint, and what they have stored and hinted so far.
local function ending(cap, stream_expiry, hint_limit)
  return { cap = cap, stream_expiry = stream_expiry, hint_limit = hint_limit, stored = {}, kept = {}, streams = {}, ended = {} }
end

local function hint(key, call, instance, ...)
  if instance ~= '' then
    local stream = key.stream .. instance
    redis.call('XADD', stream, 'MAXLEN', '~', call.cap, '*', ...)
    call.streams[stream] = true
  end
end

-- Stores one reply and hints at it; says whether the id had no reply before.
local function publish(key, call, ours, entry, id, instance, expiry, reply)
  local status, visible, is_later = 0, false, instance == LATER
  if ours then
    status, visible = 1, true
    if expiry > 0 then
      local place = key.reply .. id
      if redis.call('RPUSH', place, reply) > 1 then
        redis.call('RPOP', place)
        status, visible = 2, false
        if is_later then
          redis.call('PEXPIRE', place, expiry, 'GT')
        end
      else
        redis.call('PEXPIRE', place, expiry)
        local units = units_of(reply)
        if units >= LOT or is_drawn(units) then
          local list = is_later and call.kept or call.stored
          list[#list + 1] = { id, math.max(units, LOT), expiry }
        end
      end
    end
  end
  if is_later then -- nobody has a reply stream for it: who listens hears of it from the stream of later requests' ends
    if ours then
      call.ended.now = call.ended.now or milliseconds()
      pcall(later_ended, key, id, code_of(reply), call.ended)
    end
  elseif visible and expiry == 0 then
    -- nothing is stored, so this end concerns this entry only: the id may have been asked for again meanwhile
    hint(key, call, instance, 'id', id, 'reply', reply, 'entry', entry)
    pcall(announce_unstored, key, entry, id, reply)
  elseif visible and #reply < call.hint_limit then
    hint(key, call, instance, 'id', id, 'reply', reply)
  else
    hint(key, call, instance, 'id', id)
  end
  return status
end

-- Enters what a call has stored in its accounts, and lets the streams live on in which it has hinted.
local function settle(key, call)
  pcall(enter, key, call.stored)
  if #call.kept > 0 then
    pcall(enter, kept_account(key), call.kept)
  end
  later_settled(key, call.ended)
  for stream in pairs(call.streams) do
    redis.pcall('PEXPIRE', stream, call.stream_expiry)
  end
end

-- Acknowledges entries and returns the set of those that were still pending. One command for all of them: calling a
-- command from Lua costs more than most commands do.
local function acknowledge(key, entries)
  local ours = {}
  in_chunks(entries, function(...)
    local chunk = { ... }
    local count = redis.pcall('XACK', key.work, GROUP, ...)
    if failed(count) then -- one of the ids is none
      for _, entry in ipairs(chunk) do
        ours[entry] = redis.pcall('XACK', key.work, GROUP, entry) == 1
      end
    elseif count > 0 then
      for _, entry in ipairs(chunk) do
        -- Whoever acknowledges an entry deletes it in the same step, so those that are gone were not ours any more.
        ours[entry] = count == #chunk or entry_of(key.work, entry) ~= nil
      end
    end
  end)
  return ours
end

-- Says for which of the items the lane has no room: the large replies that would be too much, one after the other. What
-- a request took itself is free again with its reply. Where nothing is stored a first one has room, whatever its size.
local function without_room(key, args, valid)
  local without, free, kept_left = {}, nil, nil
  for i = 4, #args, 5 do
    local size = #args[i + 4]
    if valid[i] and size >= LARGE and args[i + 2] == LATER then
      kept_left = kept_left or kept_room(key, size)
      without[i] = size > kept_left or nil
      kept_left = without[i] and kept_left or kept_left - size
    elseif valid[i] and size >= LARGE and valid[i] > 0 then
      if not free then
        free = room(key, 1, size)
        free = stored_bytes(key) == 0 and math.max(free, size) or free
      end
      if size > free then
        local fields = entry_of(key.work, args[i])
        free = free + (fields and #(field(fields, 'm') or '') or 0)
      end
      without[i] = size > free or nil
      free = size > free and free or free - size
    end
  end
  return without
end

-- hr1_commit(stream cap, stream expiry ms, hint limit bytes, (entry, id, instance, expiry ms, reply)…)
--
-- Ends requests. A reply becomes visible only if this call is the one that acknowledges the entry and nobody has
-- answered the id before; then the entry is deleted. An expiry of 0 stores nothing: the reply is only hinted.
-- The hint goes out in any case; when the reply was not stored by this call, or is large, it carries the id only.
-- Where the lane has no room for the bytes of a large reply nothing is done: its request is to end with another one.
-- Returns a status per item: 1 stored or hinted, 0 not ours any more, 2 already answered, 'full', or 'error …'.
register('hr1_commit', ON_A_FULL_SERVER, function(key, args)
  local cap, stream_expiry, hint_limit = whole(args[1]), whole(args[2]), whole(args[3])
  if not (cap and stream_expiry and hint_limit) or (#args - 3) % 5 ~= 0 then
    return
  end
  local valid = {}
  for i = 4, #args, 5 do
    valid[i] = is_entry(args[i]) and is_name(args[i + 1]) and is_name_or_empty(args[i + 2]) and whole(args[i + 3])
  end
  local fine, without = pcall(without_room, key, args, valid)
  without = fine and without or {}
  local entries, seen = {}, {}
  for i = 4, #args, 5 do
    if valid[i] and not without[i] and not seen[args[i]] then
      seen[args[i]] = true
      entries[#entries + 1] = args[i]
    end
  end
  local call, ours, finished = ending(cap, stream_expiry, hint_limit), acknowledge(key, entries), {}
  local answer = each(args, 4, 5, function(i)
    if without[i] then
      return 'full'
    elseif not valid[i] then
      return MALFORMED
    end
    local entry = args[i]
    local is_ours = ours[entry]
    if is_ours then
      ours[entry] = false -- the same entry twice in a call is answered once
      finished[#finished + 1] = entry
    end
    return publish(key, call, is_ours, entry, args[i + 1], args[i + 2], valid[i], args[i + 4])
  end)
  in_chunks(finished, function(...) redis.pcall('XDEL', key.work, ...) end)
  settle(key, call)
  return answer
end)

-- hr1_answered(stream cap, stream expiry ms, (entry, id, instance)…)
--
-- Ends entries whose id has a reply already, such as requests that were sent twice: the hint carries the id only.
-- Returns a status per item: 1 ended, 0 there is no reply, so it is to run, or 'error …'.
register('hr1_answered', ON_A_FULL_SERVER, function(key, args)
  local cap, stream_expiry = whole(args[1]), whole(args[2])
  if not (cap and stream_expiry) or (#args - 2) % 3 ~= 0 then
    return
  end
  local call = ending(cap, stream_expiry, 0)
  local answer = each(args, 3, 3, function(i)
    local entry, id, instance = args[i], args[i + 1], args[i + 2]
    if not (is_entry(entry) and is_name(id) and is_name_or_empty(instance)) then
      return MALFORMED
    elseif redis.call('EXISTS', key.reply .. id) == 0 then
      return 0
    end
    redis.call('XACK', key.work, GROUP, entry)
    redis.call('XDEL', key.work, entry)
    if instance == LATER then
      pcall(later_ended, key, id, code_of(redis.call('LINDEX', key.reply .. id, 0)))
    else
      hint(key, call, instance, 'id', id)
    end
    return 1
  end)
  settle(key, call)
  return answer
end)
