-- Add text deltas to a run's event log, unless the lease is lost.
--
-- KEYS[1]  {tag}:run:<id>
-- KEYS[2]  {tag}:events:<id>
-- ARGV     1 channel, 2 fencing token, 3 event_ttl_ms, then (position, attempt, text) for each delta
-- Answer   how many were added

if redis.call('HGET', KEYS[1], 'token') ~= ARGV[2]
    or redis.call('HGET', KEYS[1], 'status') ~= 'running' then
  return 0
end
for i = 4, #ARGV, 3 do
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', 20000, '*', 'type', 'delta', 'position', ARGV[i],
    'attempt', ARGV[i + 1], 'text', ARGV[i + 2])
end
redis.call('PEXPIRE', KEYS[2], ARGV[3])
redis.call('PUBLISH', ARGV[1], 'delta')
return (#ARGV - 3) / 3
