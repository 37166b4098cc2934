-- Forget a conversation. Its token stays for a while, used up, so that who wrote to it cannot go on.
--
-- KEYS[1]  {tag}:history:<history>
-- KEYS[2]  {tag}:messages:<history>
-- KEYS[3]  {tag}:histories
-- ARGV     1 channel, 2 conversation id, 3 how long the token stays, in ms
-- Answer   how many messages were removed

local count = redis.call('XLEN', KEYS[2])
local token = redis.call('HGET', KEYS[1], 'token')
redis.call('DEL', KEYS[1], KEYS[2])
redis.call('ZREM', KEYS[3], ARGV[2])
if token then
  redis.call('HSET', KEYS[1], 'token', token, 'retracted', token, 'deleted', 1)
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
redis.call('PUBLISH', ARGV[1], 'deleted')
return count
