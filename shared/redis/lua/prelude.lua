-- The atomic steps of the queue, one call for many requests; docs/protocol.md is the contract. What all chapters use.
--
-- KEYS[1] is always the work stream of a lane, hr:{model}:q:lane. Every other key is derived from it and shares its
-- hash tag. Arguments are validated before anything is written, and each item is handled with pcall, so that one bad
-- item never strands the others of its call.

-- The lane's keys of the latest call: mostly the next call is of the same lane.
local latest = {}

local function names(work)
  if latest.work == work then
    return latest
  end
  local head, lane = string.match(work, '^(hr:{[%w_-]+}:)q:([%w_-]+)$')
  if not head then
    return nil
  end
  latest = {
    work = work,
    head = head,
    lane = lane,
    reply = head .. 'r:' .. lane .. ':',
    flight = head .. 'd:' .. lane .. ':',
    ends = head .. 'x:' .. lane,
    stream = head .. 'rs:' .. lane .. ':',
    lanes = head .. 'lanes',
    card = head .. 'card',
    workers = head .. 'workers',
    worker = head .. 'w:',
    dead = head .. 'dlq:' .. lane,
    stored = head .. 'b:' .. lane,
    usual = head .. 'bytes',
    tokens = head .. 'tokens',
    job = head .. 'j:' .. lane .. ':',
    job_ends = head .. 'je:' .. lane,
    open = head .. 'jo:' .. lane,
    kept = head .. 'jb:' .. lane,
    kept_limit = head .. 'kept',
  }
  return latest
end

local BAD_KEY = { err = 'ERR KEYS[1] must be hr:{model}:q:lane' }
local BAD_ARGS = { err = 'ERR wrong arguments' }

-- `call` gets the lane's keys and the arguments, and returns nothing where these are wrong.
local function register(name, flags, call)
  redis.register_function{
    function_name = name,
    flags = flags,
    callback = function(keys, args)
      local key = names(keys[1])
      if not key then
        return BAD_KEY
      end
      return call(key, args) or BAD_ARGS
    end,
  }
end

local WRITES, ON_A_FULL_SERVER, READS = {}, { 'allow-oom' }, { 'no-writes' }

local function is_name(text)
  return #text >= 1 and #text <= 64 and string.find(text, '^[%w_-]+$') ~= nil
end

local function is_name_or_empty(text)
  return text == '' or is_name(text)
end

local function is_entry(text)
  return string.find(text, '^%d+%-%d+$') ~= nil
end

local function whole(text)
  local number = tonumber(text)
  -- beyond 2^53 a Lua number is no whole number any more, and no expiry of Redis either
  if number == nil or number < 0 or number > 9007199254740992 or number ~= math.floor(number) then
    return nil
  end
  return number
end

local function failed(answer)
  return type(answer) == 'table' and answer.err ~= nil
end

-- What pcall returned, with 'error …' in place of an error.
local function status_of(fine, status, ...)
  if fine then
    return status, ...
  end
  return 'error ' .. (type(status) == 'table' and status.err or tostring(status))
end

-- Handles items of `width` arguments each, from the argument `first` on; returns a status for each.
local function each(args, first, width, handle)
  local answer = {}
  for i = first, #args, width do
    answer[#answer + 1] = (status_of(pcall(handle, i)))
  end
  return answer
end

local MALFORMED = 'error malformed item'

local function field(fields, name)
  for i = 1, #fields, 2 do
    if fields[i] == name then
      return fields[i + 1]
    end
  end
  return nil
end

-- The fields of an entry of a stream, nil where there is none.
local function entry_of(stream, id)
  local found = redis.call('XRANGE', stream, id, id)[1]
  return found and found[2]
end

-- Lua passes only so many arguments in one call.
local CHUNK = 1000

local function in_chunks(list, call)
  for first = 1, #list, CHUNK do
    call(unpack(list, first, math.min(first + CHUNK - 1, #list)))
  end
end

local function milliseconds()
  local clock = redis.call('TIME')
  return clock[1] * 1000 + math.floor(clock[2] / 1000)
end

-- Says that an entry came to its end without a consumer, to all that read the lane's stream of such ends.
local function announce(key, entry, id, code)
  redis.pcall('XADD', key.ends, 'MAXLEN', '~', ENDS_CAP, '*', 'entry', entry, 'id', id, 'code', code)
  redis.pcall('PEXPIRE', key.ends, ENDS_MS)
end

-- The entry that is under way for a client's own id, nil where none is remembered.
local function under_way(key, id)
  return string.match(redis.call('GET', key.flight .. id) or '', '^(%d+%-%d+) ')
end

-- Says to all front ends how an entry ended of which nothing is stored: clients may have joined it through another one
-- than the hint goes to. Only a client's own id can be joined. The field is not 'entry': its consumer knows already.
local function announce_unstored(key, entry, id, reply)
  local code = string.match(reply, '\165error[\128-\143]\164code[\160-\191]([%l_]+)')
  if code and under_way(key, id) == entry then
    redis.call('XADD', key.ends, 'MAXLEN', '~', ENDS_CAP, '*', 'ended', entry, 'id', id, 'code', code)
    redis.call('PEXPIRE', key.ends, ENDS_MS)
  end
end
