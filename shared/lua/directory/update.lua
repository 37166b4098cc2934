-- Set fields of a record.
--
-- KEYS[1]  {tag}:record:<conversation>
-- ARGV     field, value, field, value, ...
-- Answer   {'unknown'} | {'updated', record}

if redis.call('EXISTS', KEYS[1]) == 0 then
  return {'unknown'}
end
for i = 1, #ARGV, 2 do
  redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
end
return {'updated', redis.call('HGETALL', KEYS[1])}
