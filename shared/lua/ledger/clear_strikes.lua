-- Clear a run's strikes, since it has made progress after them.
--
-- KEYS[1]  {tag}:run:<id>
-- ARGV     1 worker id, 2 fencing token
-- Answer   {'fenced'} | {'cleared', record}

local run = redis.call('HMGET', KEYS[1], 'status', 'worker', 'token')
if run[1] ~= 'running' or run[2] ~= ARGV[1] or run[3] ~= ARGV[2] then
  return {'fenced'}
end
redis.call('HDEL', KEYS[1], 'strikes', 'suspect')
return {'cleared', redis.call('HGETALL', KEYS[1])}
