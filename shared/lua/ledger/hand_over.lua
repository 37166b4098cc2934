-- Give a run back unfinished.
--
-- KEYS[1]  {tag}:run:<id>
-- ARGV     1 tag, 2 run id, 3 worker id, 4 fencing token, 5 event_ttl_ms, 6 pickup_ms,
--          7 version that a worker needs which can execute it, or '' for one like this
-- Answer   {'fenced'} | {'released', {id, agent, priority}}

local tag, id, worker = ARGV[1], ARGV[2], ARGV[3]
local run = redis.call('HMGET', KEYS[1], 'status', 'token', 'worker')
if run[2] ~= ARGV[4] or run[3] ~= worker or (run[1] ~= 'running' and run[1] ~= 'queued') then
  return {'fenced'}
end
if run[1] == 'running' then
  if ARGV[7] ~= '' then
    -- As if it had never been leased: the worker found out that it cannot do anything for it.
    local needs = needed_version(redis.call('HGET', KEYS[1], 'needs'))
    redis.call('HSET', KEYS[1], 'needs', math.max(needs, tonumber(ARGV[7])))
    if redis.call('HINCRBY', KEYS[1], 'attempts', -1) == 0 then
      redis.call('HDEL', KEYS[1], 'started')
    end
  end
  release(tag, id, worker, now_ms(), {event_ms = tonumber(ARGV[5]), pickup_ms = tonumber(ARGV[6])})
end
return {'released', wake_up(tag, id)}
