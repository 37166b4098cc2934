-- Put in front of every script of the directory, behind record.lua. See also:
--
-- {tag}:session:<session>, a hash in the partition of the session's first conversation:
--   current    the generation that takes inputs     last    the greatest one given out
--   g:<n>      'new' while this generation is to get a record, 'made' while it has one

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- The run that holds a conversation, if one does.
local function active_run(tag, id)
  return redis.call('HGET', tag .. ':conversation:' .. id, 'active')
end

-- Let a conversation take no further runs. The first time stays.
local function close(tag, id, now)
  redis.call('HSETNX', record_key(tag, id), 'deactivated', now)
  redis.call('ZREM', tag .. ':open', id)
end

-- Whether nothing has happened for so long, and nothing is about to.
local function is_idle(tag, id, now, idle_ms)
  local activity = redis.call('HGET', record_key(tag, id), 'activity')
  return now - tonumber(activity or now) >= tonumber(idle_ms) and not active_run(tag, id)
end
