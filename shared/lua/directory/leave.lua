-- Take a generation out of its session, and forget a session that has none left.
--
-- KEYS[1]  {tag}:session:<session>
-- ARGV     1 generation
-- Answer   nothing

redis.call('HDEL', KEYS[1], 'g:' .. ARGV[1])
for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
  if string.sub(field, 1, 2) == 'g:' then
    return
  end
end
redis.call('DEL', KEYS[1])
