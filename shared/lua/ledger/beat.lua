-- Announce that a worker lives.
--
-- KEYS[1]  <prefix>:workers
-- ARGV     1 worker id, 2 how long to remember a dead worker, ms, 3 lease_ms
-- Answer   nothing
--
-- What the worker announces is written beside it with SET, in another slot: it is only read for
-- display and for checking agent names, and the next beat writes it again.

local now = now_ms()
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - tonumber(ARGV[2]))
-- Nobody has beaten for half a lease: it is the server that was away. Who beats first must not find
-- all others dead, so each of them gets the length of a lease to come back.
local newest = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')
if newest[2] and now - newest[2] > tonumber(ARGV[3]) / 2 then
  for _, id in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
    redis.call('ZADD', KEYS[1], now, id)
  end
end
redis.call('ZADD', KEYS[1], now, ARGV[1])
