-- Announce that a worker lives.
--
-- KEYS[1]  <prefix>:workers
-- ARGV     1 worker id, 2 how long to remember a dead worker, ms
-- Answer   nothing
--
-- What the worker announces is written beside it with SET, in another slot: it is only read for
-- display and for checking agent names, and the next beat writes it again.

redis.call('ZADD', KEYS[1], now_ms(), ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now_ms() - tonumber(ARGV[2]))
