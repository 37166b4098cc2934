-- Take a ready run.
--
-- KEYS[1]  {tag}:run:<id>
-- ARGV     1 tag, 2 run id, 3 worker id, 4 event_ttl_ms, 5 '1' if it may be a suspect,
--          6 version of the worker, 7... agents that the worker serves
-- Answer   {'leased', record} | {'taken'} | {'unserved', agent} | {'newer'} | {'suspect'} | {'unknown'}

local tag, id, worker = ARGV[1], ARGV[2], ARGV[3]
local run = redis.call('HMGET', KEYS[1], 'status', 'worker', 'history', 'agent', 'started',
  'suspect', 'needs', 'version')
if not run[1] then
  return {'unknown'}
end
local conversation = tag .. ':conversation:' .. run[3]

-- Greater than the last one, and at least the time in microseconds: so a server that has lost its
-- latest writes (a power cut, a failover) does not give a token away for the second time.
local function give_token()
  local time = redis.call('TIME')
  local previous = tonumber(redis.call('HGET', conversation, 'token') or 0)
  local token = math.max(previous + 1, time[1] * 1000000 + time[2])
  redis.call('HSET', conversation, 'token', token)
  redis.call('HSET', KEYS[1], 'token', token)
end

-- The answer to this worker's lease was lost, or it had given the run up: it has it still. What it
-- sent before and what has not arrived yet is refused, since it knows nothing of that any more.
if run[1] == 'running' and run[2] == worker then
  give_token()
  return {'leased', redis.call('HGETALL', KEYS[1])}
end
if run[1] ~= 'queued' or redis.call('HGET', conversation, 'active') ~= id then
  return {'taken'}
end
local now = now_ms()
local is_served = false
for i = 7, #ARGV do
  is_served = is_served or ARGV[i] == run[4]
end
if not is_served then
  for i = 7, #ARGV do
    -- There it can only be if its record was tampered with since; it would be found there for ever.
    for needs = 1, tonumber(ARGV[6]) do
      redis.call('ZREM', ready_key(tag, ARGV[i], '0', needs), id)
    end
  end
  make_ready(tag, id, now)
  return {'unserved', run[4]}
end
if math.max(needed_version(run[7]), needed_version(run[8])) > tonumber(ARGV[6]) then
  make_ready(tag, id, now)
  return {'newer'}
end
if run[6] == '1' and ARGV[5] ~= '1' then
  return {'suspect'}
end
redis.call('ZREM', ready_key(tag, run[4], run[6], run[7]), id)
give_token()
redis.call('HSET', KEYS[1], 'worker', worker)
redis.call('HINCRBY', KEYS[1], 'attempts', 1)
if not run[5] then
  redis.call('HSET', KEYS[1], 'started', now)
end
redis.call('ZADD', tag .. ':leases:' .. worker, now, id)
redis.call('SADD', tag .. ':holders', worker)
set_status(tag, id, 'running', tonumber(ARGV[4]))
return {'leased', redis.call('HGETALL', KEYS[1])}
