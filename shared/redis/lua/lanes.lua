-- hr1_lanes()
--
-- Makes stream and group of every lane of the model where they are missing, and tidies what is known of its stored
-- replies. Returns the lanes as HGETALL does: name, 'limit,weight'…, and with ':bytes' behind a name what that lane may
-- take.
register('hr1_lanes', ON_A_FULL_SERVER, function(key, args)
  if #args ~= 0 then
    return
  end
  local found = redis.call('HGETALL', key.lanes)
  for i = 1, #found, 2 do
    if is_name(found[i]) then
      local lane = names(key.head .. 'q:' .. found[i])
      redis.pcall('XGROUP', 'CREATE', lane.work, GROUP, '0', 'MKSTREAM')
      known[lane.stored] = nil -- its limit may be another
      pcall(tidy, lane)
    end
  end
  return found
end)

-- Moves up to so many entries to another stream, the first under the given id, those after it under what follows.
-- Some no call can carry. Returns how many were moved and how many lost.
local function move(from, to, most, id, moved_to)
  local moved, lost = 0, 0
  while moved < most do
    local rows = redis.pcall('XRANGE', from, '-', '+', 'COUNT', math.min(100, most - moved))
    if failed(rows) or #rows == 0 then
      break
    end
    local taken = {}
    for i, row in ipairs(rows) do
      taken[i] = row[1]
      local fine, entry = pcall(function() return redis.call('XADD', to, id, unpack(row[2])) end)
      if fine then
        moved, id = moved + 1, '*'
        if moved_to then
          pcall(moved_to, field(row[2], 'm') or '', entry)
        end
      else
        lost = lost + 1
      end
    end
    redis.call('XDEL', from, unpack(taken))
  end
  return moved, lost
end

-- hr1_repair(most[, ahead ms])
--
-- Makes the lane's stream and group anew and puts its entries back in their order, the oldest first and at most so
-- many, with ids of now: so their time to live begins anew. Whatever consumers hold of the lane is among them. This is
-- the way back from an id so high that XADD makes no more: XSETID does not lead down everywhere. The lane's stream of
-- ends is cleared as well. With ahead ms nothing is done unless the newest id lies so far in the future, and the stream
-- of ends stays.
-- Returns {kept, dropped}.
register('hr1_repair', ON_A_FULL_SERVER, function(key, args)
  local most, ahead = whole(args[1]), whole(args[2] or '0')
  if #args < 1 or #args > 2 or not (most and ahead) then
    return
  end
  if #args == 2 then
    local info = redis.pcall('XINFO', 'STREAM', key.work)
    -- as a number it is not exact beyond 2^53, but as far in the future as it is
    if failed(info) or tonumber(string.match(field(info, 'last-generated-id'), '^%d+')) <= milliseconds() + ahead then
      return { 0, 0 }
    end
  end
  local shelf = key.head .. 'repair:' .. key.lane
  redis.call('UNLINK', shelf)
  local kept, dropped = move(key.work, shelf, most, '*')
  local left = redis.pcall('XLEN', key.work)
  redis.call('UNLINK', key.work)
  redis.call('XGROUP', 'CREATE', key.work, GROUP, '0', 'MKSTREAM')
  -- Not 0 as the first number of this millisecond: an id that a consumer still holds must not come again.
  move(shelf, key.work, kept, milliseconds() .. '-1099511627776', function(message, entry)
    later_moved(key, message, entry)
  end)
  redis.call('UNLINK', shelf)
  if #args == 1 then -- after a clock was set back its ids must go on from where all have read it
    redis.pcall('UNLINK', key.ends)
  end
  return { kept, dropped + (failed(left) and 0 or left) }
end)
