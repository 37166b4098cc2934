-- Records of managed conversations. Put in front of every script of the ledger and the directory.
--
-- {tag}:record:<conversation>, a hash:
--   new            what it says from its beginning, JSON
--   user, agent, channel    as in there; user may be ''
--   title          string or ''                     metadata     JSON
--   created        ms, server time                  activity     ms: last submit or end of a run
--   deactivated    ms, once it takes no runs        archived     name of an archive
--   work           fork|archive|purge while that is being done
--   runs           runs that have ended             cost         what is known of it, 1e-12 dollars
--   unpriced       runs with an unknown cost        input_tokens and so on    as in Usage
-- {tag}:records, {tag}:by_user:<user>, {tag}:by_agent:<agent>, {tag}:by_channel:<channel>, zsets:
--   conversation ids by activity
-- {tag}:open, {tag}:here, zsets: the same of those that take runs, and of those not archived, so that
--   who looks for what is idle or old does not come upon all that was closed and archived before
-- {tag}:unfinished, a zset: conversations that have `work`, by when it was begun

local function record_key(tag, id)
  return tag .. ':record:' .. id
end

-- The indexes that hold a record, whatever state it is in; `names` are its user, agent and channel.
local function record_indexes(tag, names)
  local indexes = {tag .. ':records', tag .. ':by_agent:' .. names[2],
    tag .. ':by_channel:' .. names[3]}
  if names[1] and names[1] ~= '' then
    indexes[4] = tag .. ':by_user:' .. names[1]
  end
  return indexes
end

-- Note that something has happened in a conversation, if it has a record.
local function touch_record(tag, id, now)
  local key = record_key(tag, id)
  local names = redis.call('HMGET', key, 'user', 'agent', 'channel', 'deactivated', 'archived')
  if not names[2] or not names[3] then
    return false
  end
  redis.call('HSET', key, 'activity', now)
  local indexes = record_indexes(tag, names)
  if not names[4] then
    indexes[#indexes + 1] = tag .. ':open'
  end
  if not names[5] then
    indexes[#indexes + 1] = tag .. ':here'
  end
  for _, index in ipairs(indexes) do
    redis.call('ZADD', index, now, id)
  end
  return true
end

-- Count a run that ends now. `totals` is {name, amount, name, amount, ...} or nil.
local function count_run(tag, id, now, totals)
  if not touch_record(tag, id, now) then
    return
  end
  redis.call('HINCRBY', record_key(tag, id), 'runs', 1)
  for i = 1, totals and #totals or 0, 2 do
    -- As it came: a number of Lua has too few digits.
    redis.call('HINCRBY', record_key(tag, id), totals[i], totals[i + 1])
  end
end

-- Whether a conversation has a record that says that it takes no runs.
local function is_closed(tag, id)
  return redis.call('HEXISTS', record_key(tag, id), 'deactivated') == 1
end
