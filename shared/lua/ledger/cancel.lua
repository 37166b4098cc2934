-- Stop a run.
--
-- KEYS[1]  {tag}:run:<id>
-- ARGV     1 tag, 2 prefix, 3 run id, 4 event_ttl_ms, 5 run_ttl_ms, 6 pickup_ms, 7 outcome (JSON)
-- Answer   {'unknown'} | {'already_ended'} | {'already_requested'} | {'requested'}
--          {'cancelled', {} or {id, agent, priority} of the next run}

local tag, prefix, id = ARGV[1], ARGV[2], ARGV[3]
local run = redis.call('HMGET', KEYS[1], 'status', 'attempts', 'history', 'cancel')
if not run[1] then
  return {'unknown'}
end
if run[1] ~= 'queued' and run[1] ~= 'running' then
  return {'already_ended'}
end
if run[4] == '1' then
  return {'already_requested'}
end
local now = now_ms()
if run[1] == 'running' or run[2] ~= '0' then
  ask_to_stop(tag, id, prefix, false, now)
  return {'requested'}
end
take_from_line(tag, id)
local ttls = {event_ms = tonumber(ARGV[4]), run_ms = tonumber(ARGV[5]), pickup_ms = tonumber(ARGV[6])}
return {'cancelled', end_run(tag, id, 'cancelled', ARGV[7], now, ttls)}
