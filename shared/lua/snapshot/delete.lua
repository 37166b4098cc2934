-- Remove a snapshot, also from the lists.
--
-- KEYS[1]  {tag}:snapshot:<snapshot id>
-- KEYS[2]  {tag}:snapshots
-- KEYS[3]  {tag}:snapshots_of:<conversation id>, where its info could be read
-- KEYS[4]  {tag}:snapshots_by:<agent>, where there is one
-- ARGV     1 snapshot id
-- Answer   1 if it was there, else 0

for i = 2, #KEYS do
  redis.call('ZREM', KEYS[i], ARGV[1])
end
return redis.call('DEL', KEYS[1])
