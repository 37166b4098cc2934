-- Give a session its next generation, unless somebody else just did.
--
-- KEYS[1]  {tag}:session:<session>
-- ARGV     1 the generation that was found to take no inputs, 0 for none,
--          2 '1' to make the next one without letting it take inputs yet
-- Answer   the generation that takes inputs now, or the one that was made

local current = tonumber(redis.call('HGET', KEYS[1], 'current') or 0)
if ARGV[2] ~= '1' and current ~= tonumber(ARGV[1]) then
  return current
end
local made = redis.call('HINCRBY', KEYS[1], 'last', 1)
redis.call('HSET', KEYS[1], 'g:' .. string.format('%d', made), 'new')
if ARGV[2] ~= '1' then
  redis.call('HSET', KEYS[1], 'current', made)
end
return made
