local BAD_NAME = 'error the id is not a valid name'

-- hr1_cancel(tell, (id, entry)…)
--
-- Takes requests back: one that waits is deleted; one that a consumer has claimed is taken away from it as well, so
-- that whatever still comes of it changes nothing, and its consumer is told through the lane's stream of ends.
-- An empty entry is the one that is under way for a client's own id. With tell '1' somebody may wait for the answer, and
-- is told through the same stream.
-- Returns a status per item: 'queued' or 'claimed' (what it was until now), 'answered' (there is a reply already),
-- 'unknown' (it is not under way), or 'error …'.
register('hr1_cancel', ON_A_FULL_SERVER, function(key, args)
  if (args[1] ~= '0' and args[1] ~= '1') or #args % 2 == 0 then
    return
  end
  return each(args, 2, 2, function(i)
    local id, entry = args[i], args[i + 1]
    if not is_name(id) then
      return BAD_NAME
    end
    local noted = under_way(key, id)
    if entry == '' then
      entry = noted or later_entry(key, id)
    elseif not is_entry(entry) then
      return 'error the entry is none'
    end
    local claimed = entry and redis.call('XACK', key.work, GROUP, entry) == 1
    if not entry or redis.call('XDEL', key.work, entry) == 0 then
      local is_answered = redis.call('EXISTS', key.reply .. id) == 1 or redis.call('EXISTS', key.job .. id) == 1
      return is_answered and 'answered' or 'unknown'
    end
    pcall(later_ended, key, id, 'cancelled')
    if noted == entry then
      redis.call('UNLINK', key.flight .. id)
    end
    if claimed then
      forget_record(key, id)
    end
    if claimed or args[1] == '1' then
      announce(key, entry, id, 'cancelled')
    end
    return claimed and 'claimed' or 'queued'
  end)
end)

-- hr1_ask(id…)
--
-- Says how requests with ids of the clients' own stand: 'answered', 'queued', 'claimed' or 'unknown'. Only reads.
register('hr1_ask', READS, function(key, args)
  return each(args, 1, 1, function(i)
    local id = args[i]
    if not is_name(id) then
      return BAD_NAME
    elseif redis.call('EXISTS', key.reply .. id) == 1 then
      return 'answered'
    end
    local entry = under_way(key, id) or later_entry(key, id)
    if not entry or not entry_of(key.work, entry) then
      return 'unknown'
    end
    local row = redis.pcall('XPENDING', key.work, GROUP, entry, entry, 1)
    return (failed(row) or #row == 0) and 'queued' or 'claimed'
  end)
end)
