-- Add text deltas to a run's event log, unless the lease is lost.
--
-- KEYS[1]  {tag}:run:<id>
-- KEYS[2]  {tag}:events:<id>
-- ARGV     1 channel, 2 fencing token, 3 event_ttl_ms, then (position, attempt, text, seal) for each
--          delta; seal is JSON, or '' for a text that is not encrypted
-- Answer   how many were added

if redis.call('HGET', KEYS[1], 'token') ~= ARGV[2]
    or redis.call('HGET', KEYS[1], 'status') ~= 'running' then
  return 0
end
for i = 4, #ARGV, 4 do
  local entry = {'type', 'delta', 'position', ARGV[i], 'attempt', ARGV[i + 1], 'text', ARGV[i + 2]}
  if ARGV[i + 3] ~= '' then
    entry[9], entry[10] = 'sealed', ARGV[i + 3]
  end
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', 20000, '*', unpack(entry))
end
redis.call('PEXPIRE', KEYS[2], ARGV[3])
redis.call('PUBLISH', ARGV[1], 'delta')
return (#ARGV - 3) / 4
