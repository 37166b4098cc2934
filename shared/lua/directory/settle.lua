-- Note that a generation has its record, and let it take the session's inputs, unless a newer one
-- does.
--
-- KEYS[1]  {tag}:session:<session>
-- ARGV     1 generation
-- Answer   nothing

local generation = tonumber(ARGV[1])
redis.call('HSET', KEYS[1], 'g:' .. ARGV[1], 'made')
for _, field in ipairs({'current', 'last'}) do
  if generation > tonumber(redis.call('HGET', KEYS[1], field) or 0) then
    redis.call('HSET', KEYS[1], field, ARGV[1])
  end
end
