-- Become the only writer of a conversation and read what a run needs to go on.
--
-- KEYS[1]  {tag}:history:<history>
-- KEYS[2]  {tag}:messages:<history>
-- ARGV     1 run id, 2 fencing token, 3 how many earlier messages
-- Answer   {'fenced'}
--          {'claimed', earlier entries newest first, own entries oldest first, next own position}

if is_fenced(KEYS[1], ARGV[2]) then
  return {'fenced'}
end
become_writer(KEYS[1], KEYS[2], ARGV[1], ARGV[2])
revive(KEYS[1])
local own = entries_of(KEYS[1], KEYS[2], ARGV[1])
-- After a clear there may be fewer than it had written; it goes on from what it is told here.
local next = next_position(own)
redis.call('HSET', KEYS[1], 'next', next)
local first = redis.call('HGET', KEYS[1], 'first:' .. ARGV[1])
local earlier = {}
if tonumber(ARGV[3]) > 0 then
  earlier = redis.call('XREVRANGE', KEYS[2], first and ('(' .. first) or '+', '-', 'COUNT', ARGV[3])
end
return {'claimed', earlier, own, next}
