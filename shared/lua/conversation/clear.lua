-- Remove all messages. The stream stays, empty, so that its ids go on growing and cursors that were
-- handed out keep their meaning; the fencing token and the writer's position stay, so that a run
-- that is writing goes on.
--
-- KEYS[1]  {tag}:history:<history>
-- KEYS[2]  {tag}:messages:<history>
-- KEYS[3]  {tag}:histories
-- ARGV     1 channel, 2 conversation id
-- Answer   how many

local count = redis.call('XLEN', KEYS[2])
if count > 0 then
  redis.call('XTRIM', KEYS[2], 'MAXLEN', 0)
end
for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
  if string.sub(field, 1, 6) == 'first:' or field == 'count' then
    redis.call('HDEL', KEYS[1], field)
  end
end
redis.call('ZREM', KEYS[3], ARGV[2])
redis.call('PUBLISH', ARGV[1], 'cleared')
return count
