-- Note that work is done: a fork takes runs, an archived conversation names its archive.
--
-- KEYS[1]  {tag}:record:<conversation>
-- ARGV     1 tag, 2 conversation id, 3 work, 4 name of the archive or ''
-- Answer   {'unknown'} | {'other', record} it is not the work that was begun | {'done', record}

local tag, id = ARGV[1], ARGV[2]
if redis.call('EXISTS', KEYS[1]) == 0 then
  return {'unknown'}
end
if redis.call('HGET', KEYS[1], 'work') ~= ARGV[3] then
  return {'other', redis.call('HGETALL', KEYS[1])}
end
redis.call('HDEL', KEYS[1], 'work')
redis.call('ZREM', tag .. ':unfinished', id)
if ARGV[3] == 'fork' then
  redis.call('HDEL', KEYS[1], 'deactivated')
  touch_record(tag, id, now_ms())
else
  redis.call('HSET', KEYS[1], 'archived', ARGV[4])
  redis.call('ZREM', tag .. ':here', id)
end
return {'done', redis.call('HGETALL', KEYS[1])}
