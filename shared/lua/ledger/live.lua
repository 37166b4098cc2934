-- Which workers live, by the server's clock.
--
-- KEYS[1]  <prefix>:workers
-- ARGV     1 lease_ms
-- Answer   ids

return redis.call('ZRANGEBYSCORE', KEYS[1], now_ms() - tonumber(ARGV[1]), '+inf')
