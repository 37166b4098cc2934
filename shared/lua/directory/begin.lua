-- Close a conversation and note what is being done with it. A purge takes any other work over.
--
-- KEYS[1]  {tag}:record:<conversation>
-- ARGV     1 tag, 2 conversation id, 3 work, 4 idle_ms, for how long nothing must have happened, or ''
-- Answer   {'unknown'} | {'busy', run id or ''} | {'other', work} | {'begun', record}

local tag, id = ARGV[1], ARGV[2]
if redis.call('EXISTS', KEYS[1]) == 0 then
  return {'unknown'}
end
local active = active_run(tag, id)
if active then
  return {'busy', active}
end
local work = redis.call('HGET', KEYS[1], 'work')
if work and work ~= ARGV[3] and ARGV[3] ~= 'purge' then
  return {'other', work}
end
local now = now_ms()
if ARGV[4] ~= '' and not is_idle(tag, id, now, ARGV[4]) then
  return {'busy', ''}
end
close(tag, id, now)
redis.call('HSET', KEYS[1], 'work', ARGV[3])
redis.call('ZADD', tag .. ':unfinished', 'NX', now, id)
return {'begun', redis.call('HGETALL', KEYS[1])}
