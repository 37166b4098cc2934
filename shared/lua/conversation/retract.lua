-- Remove everything that a run wrote.
--
-- KEYS[1]  {tag}:history:<history>
-- KEYS[2]  {tag}:messages:<history>
-- ARGV     1 channel, 2 run id, 3 fencing token
-- Answer   {'fenced'} | {'retracted', how many}

local run = ARGV[2]
if is_fenced(KEYS[1], ARGV[3]) then
  return {'fenced'}
end
become_writer(KEYS[1], KEYS[2], run, ARGV[3])
local own = entries_of(KEYS[1], KEYS[2], run)
for _, entry in ipairs(own) do
  redis.call('XDEL', KEYS[2], entry[1])
end
redis.call('HDEL', KEYS[1], 'first:' .. run)
redis.call('HSET', KEYS[1], 'next', 0, 'retracted', ARGV[3])
if #own > 0 then
  redis.call('HINCRBY', KEYS[1], 'count', -#own)
  redis.call('PUBLISH', ARGV[1], 'retracted')
end
return {'retracted', #own}
