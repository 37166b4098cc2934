-- Keep a snapshot, and list it.
--
-- KEYS[1]  {tag}:snapshot:<snapshot id>
-- KEYS[2]  {tag}:snapshots
-- KEYS[3]  {tag}:snapshots_of:<conversation id>
-- KEYS[4]  {tag}:snapshots_by:<agent>, where there is one
-- ARGV     1 snapshot id, 2 info, 3 body
-- Answer   1

redis.call('HSET', KEYS[1], 'info', ARGV[2], 'body', ARGV[3])
for i = 2, #KEYS do
  redis.call('ZADD', KEYS[i], 0, ARGV[1])
end
return 1
