-- What a request says besides its payload. The server's own msgpack library is no use here: it does not know 'bin', and
-- would copy the payload. A message that cannot be read, or is made to be read for long, says what stands before that.

-- Bytes of the length or number behind a type byte, what follows, and its size where that is fixed.
local SIZED = {
  [0xc4] = { 1, 'data' }, [0xc5] = { 2, 'data' }, [0xc6] = { 4, 'data' },
  [0xca] = { 4 }, [0xcb] = { 8 }, [0xcc] = { 1, 'number' }, [0xcd] = { 2, 'number' }, [0xce] = { 4, 'number' },
  [0xcf] = { 8 }, [0xd0] = { 1 }, [0xd1] = { 2 }, [0xd2] = { 4 }, [0xd3] = { 8 },
  [0xd9] = { 1, 'data' }, [0xda] = { 2, 'data' }, [0xdb] = { 4, 'data' },
  [0xdc] = { 2, 'values', 1 }, [0xdd] = { 4, 'values', 1 }, [0xde] = { 2, 'values', 2 }, [0xdf] = { 4, 'values', 2 },
}

-- Returns where the next value begins, how many values are inside this one, and a short string or a number itself.
local function value_at(text, at)
  local kind = string.byte(text, at)
  if not kind or kind <= 0x7f then
    return kind and at + 1, 0, kind
  elseif kind <= 0x9f then
    return at + 1, kind <= 0x8f and 2 * (kind - 0x80) or kind - 0x90
  elseif kind <= 0xbf then
    return at + kind - 0x9f, 0, string.sub(text, at + 1, at + kind - 0xa0)
  elseif kind == 0xc0 or kind == 0xc2 or kind == 0xc3 or kind >= 0xe0 then
    return at + 1, 0
  end
  local width, what, each = unpack(SIZED[kind] or {})
  if not width or at + width > #text then
    return nil, 0
  end
  local size, after = 0, at + 1 + width
  for i = at + 1, at + width do
    size = size * 256 + string.byte(text, i)
  end
  if what == 'data' then
    return after + size, 0, size <= 64 and string.sub(text, after, after + size - 1) or nil
  elseif what == 'values' then
    return after, size * each
  end
  return after, 0, what and size
end

local function members(message, most)
  local found, values = {}, 0
  most = most or MOST_VALUES
  local at = value_at(message, 1)
  while at and values < most do
    local name, inside, value
    at, inside, name = value_at(message, at)
    if not at or inside > 0 then
      break
    end
    at, inside, value = value_at(message, at)
    if at and name and value then
      found[name] = value
    end
    values = values + 2
    while at and inside > 0 and values < most do
      local more
      at, more = value_at(message, at)
      inside, values = inside - 1 + more, values + 1
    end
  end
  return found
end
