-- Store the outcome of a run and end its lease.
--
-- KEYS[1]  {tag}:run:<id>
-- ARGV     1 tag, 2 run id, 3 worker id, 4 fencing token, 5 final status, 6 outcome (JSON),
--          7 '1' if its messages are removed, 8 event_ttl_ms, 9 run_ttl_ms, 10 pickup_ms,
--          then (name, amount) for each total of its conversation that it adds to
-- Answer   {'fenced'} | {'finished', {} or {id, agent, priority} of the next run}
--          {'rollback'}    it was asked to roll back, and its messages are not removed

local tag, id, worker = ARGV[1], ARGV[2], ARGV[3]
local run = redis.call('HMGET', KEYS[1], 'status', 'token', 'history', 'worker', 'rollback')
if run[2] ~= ARGV[4] or run[4] ~= worker then
  return {'fenced'}
end
if run[1] ~= 'running' and run[1] ~= 'queued' then
  -- Finished before, and the answer was lost: name the next run again if it still waits for a ring.
  local active = redis.call('HGET', tag .. ':conversation:' .. run[3], 'active')
  if active and redis.call('HGET', run_key(tag, active), 'status') == 'queued' then
    return {'finished', wake_up(tag, active)}
  end
  return {'finished', {}}
end
if run[1] ~= 'running' then
  return {'fenced'}
end
if run[5] == '1' and ARGV[7] ~= '1' then
  return {'rollback'}
end
redis.call('ZREM', tag .. ':leases:' .. worker, id)
local ttls = {event_ms = tonumber(ARGV[8]), run_ms = tonumber(ARGV[9]), pickup_ms = tonumber(ARGV[10])}
local totals = {}
for i = 11, #ARGV do
  totals[#totals + 1] = ARGV[i]
end
return {'finished', end_run(tag, id, ARGV[5], ARGV[6], now_ms(), ttls, totals)}
