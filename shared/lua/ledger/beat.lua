-- Announce that a worker lives.
--
-- KEYS[1]  <prefix>:workers
-- ARGV     1 worker id, 2 how long to remember a dead worker, ms, 3 lease_ms
-- Answer   nothing
--
-- What the worker announces is written beside it with SET, in another slot: it is only read for
-- display and for checking agent names, and the next beat writes it again.

local now, lease_ms = now_ms(), tonumber(ARGV[3])
-- Nobody has beaten for half a lease: it is the server that was away. Who beats first must not find
-- all others dead, so that time does not count for those that lived until then, however long it was.
-- One that had been silent before has only what was left of its lease: it may be dead, and its runs
-- have waited long enough. Hence all of it is looked at before anybody is forgotten.
local newest = redis.call('ZREVRANGE', KEYS[1], 0, 0, 'WITHSCORES')
if newest[2] and now - newest[2] > lease_ms / 2 then
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. newest[2] - lease_ms, '+inf')) do
    redis.call('ZINCRBY', KEYS[1], now - newest[2], id)
  end
end
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - tonumber(ARGV[2]))
redis.call('ZADD', KEYS[1], now, ARGV[1])
