-- Delete the ended runs of a conversation, with all that is kept of them.
--
-- KEYS[1]  {tag}:conversation:<history>
-- KEYS[2]  {tag}:runs:<history>
-- ARGV     1 tag, 2 conversation id, 3 how many at most
-- Answer   {'busy', run id} | {'removed', how many, how many are left}

local tag, id = ARGV[1], ARGV[2]
local active = redis.call('HGET', KEYS[1], 'active')
if active then
  return {'busy', active}
end
local runs = redis.call('ZRANGE', KEYS[2], 0, tonumber(ARGV[3]) - 1)
local removed = 0
for _, run in ipairs(runs) do
  -- pcall: what is damaged is deleted as well.
  local key = redis.pcall('HGET', run_key(tag, run), 'key')
  if type(key) == 'string' and redis.pcall('GET', key) == run then
    redis.call('DEL', key)
  end
  removed = removed + redis.call('DEL', run_key(tag, run))
  redis.call('DEL', tag .. ':events:' .. run)
  for _, status in ipairs({'queued', 'running', 'completed', 'failed', 'cancelled'}) do
    redis.pcall('ZREM', tag .. ':status:' .. status, run)
  end
  redis.call('ZREM', KEYS[2], run)
end
local left = redis.call('ZCARD', KEYS[2])
if left == 0 then
  -- The next lease takes its token from the clock, so none is given away for the second time.
  redis.call('DEL', KEYS[1])
  redis.call('ZREM', tag .. ':conversations', id)
end
return {'removed', removed, left}
