-- Delete a record.
--
-- KEYS[1]  {tag}:record:<conversation>
-- ARGV     1 tag, 2 conversation id
-- Answer   1 if it was there, else 0

local tag, id = ARGV[1], ARGV[2]
local names = redis.call('HMGET', KEYS[1], 'user', 'agent', 'channel')
if names[2] and names[3] then
  for _, index in ipairs(record_indexes(tag, names)) do
    redis.call('ZREM', index, id)
  end
end
for _, index in ipairs({':open', ':here', ':unfinished'}) do
  redis.call('ZREM', tag .. index, id)
end
return redis.call('DEL', KEYS[1])
