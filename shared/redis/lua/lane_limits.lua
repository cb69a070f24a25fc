-- The limits of a lane in bytes and in prompt tokens, and what its requests take of both.
--
-- No message says how many tokens it has, and front ends have no
-- tokenizer: consumers say how many bytes a thousand tokens take in each lane, of whole messages, as they see them.
--
-- hr:{M}:tokens has that by lane. In hr:{M}:lanes 'LANE:tokens' is the limit that an operator has set, 0 for none, and
-- ':tokens' the one from the consumers' settings for all others.

local USUAL_LIMIT = 536870912 -- where the server has no limit of its own
local USUAL_MS = 3600000 -- what workers said of it last is good for so long
local NODES = 4096 -- of a stream with more the first are taken for all
local KILOTOKEN_BYTES = 4000 -- where nothing is known yet
local EXACT = 65536

local function queued_bytes(key)
  local bytes = redis.pcall('MEMORY', 'USAGE', key.work, 'SAMPLES', NODES)
  return type(bytes) == 'number' and bytes or 0
end

-- Bytes of the lane's messages. MEMORY USAGE counts nodes of the stream that are mostly empty, so a few are looked at.
local function message_bytes(key, queued)
  if queued > EXACT then
    return queued
  end
  local sum = 0
  for _, row in ipairs(redis.call('XRANGE', key.work, '-', '+')) do
    sum = sum + #(field(row[2], 'm') or '')
  end
  return sum
end

-- What a thousand tokens take in bytes; nil where nobody has said, as of a model that counts none.
local function kilotoken_bytes(key)
  local found = redis.pcall('HGET', key.tokens, key.lane)
  local bytes = type(found) == 'string' and whole(found)
  return bytes and bytes > 0 and bytes or nil
end

-- The limits of a lane: in bytes, and in prompt tokens, 0 for none.
local function limits_of(key)
  local bytes, tokens, usual_tokens = unpack(redis.call('HMGET', key.lanes, key.lane .. ':bytes', key.lane .. ':tokens', ':tokens'))
  return whole(bytes) or whole(redis.call('GET', key.usual)) or USUAL_LIMIT, whole(tokens) or whole(usual_tokens) or 0
end

-- How many bytes more of requests the lane may take by its limit in tokens.
local function token_room(key, most_tokens, queued)
  return most_tokens * (kilotoken_bytes(key) or KILOTOKEN_BYTES) / 1000 - message_bytes(key, queued)
end

-- What a worker says of tokens.
local function note_tokens(key, fields)
  local most = whole(field(fields, 'lane_tokens'))
  if not most then
    return
  elseif most > 0 then
    redis.call('HSET', key.lanes, ':tokens', string.format('%.0f', most))
  else
    redis.call('HDEL', key.lanes, ':tokens')
  end
  local said = field(fields, 'token_bytes') or ''
  if said ~= '' then
    for lane, bytes in string.gmatch(said, '([%w_-]+)=(%d+)') do
      redis.call('HSET', key.tokens, lane, bytes)
    end
    redis.pcall('PEXPIRE', key.tokens, USUAL_MS)
  end
end
