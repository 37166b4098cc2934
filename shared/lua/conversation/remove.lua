-- Remove one message.
--
-- KEYS[1]  {tag}:history:<history>
-- KEYS[2]  {tag}:messages:<history>
-- ARGV     1 channel, 2 cursor
-- Answer   1 if it was there, else 0
--
-- `first:<run>` stays: it only has to lie before all that the run wrote.

local removed = redis.call('XDEL', KEYS[2], ARGV[2])
if removed > 0 then
  redis.call('HINCRBY', KEYS[1], 'count', -1)
  redis.call('PUBLISH', ARGV[1], 'removed')
end
return removed
