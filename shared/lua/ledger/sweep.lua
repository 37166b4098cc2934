-- One worker's look around in one partition.
--
-- KEYS[1]  {tag}:holders
-- KEYS[2]  {tag}:leases:<sweeping worker>
-- KEYS[3]  {tag}:cancelling
-- ARGV     1 tag, 2 how many overdue runs to name, 3 lease_ms, 4 event_ttl_ms, 5 retake_ms,
--          6 run_ttl_ms, 7 strikes of a suspect (0: there are none),
--          8 n, then n ids of live workers, then the agents that the sweeper serves
-- Answer   {reclaimed {{id, agent, priority}...}, overdue {{id, since}...}, cancelled {id...},
--           leased {id...}, suspects {{id, since}...}}    at most one suspect of an agent

local tag, limit, lease_ms = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
-- Whoever is rung may be dead or frozen as well, and these runs have waited for a lease already.
local ttls = {event_ms = tonumber(ARGV[4]), pickup_ms = tonumber(ARGV[5])}
local now = now_ms()
local is_live = {}
local suspect_at = tonumber(ARGV[7])
local agents_from = 9 + tonumber(ARGV[8])
for i = 9, agents_from - 1 do
  is_live[ARGV[i]] = true
end

-- Blame the run for its worker's death, and note whether the next one would be the last.
local function count_crash(id)
  local key = run_key(tag, id)
  redis.call('HINCRBY', key, 'crashes', 1)
  local strikes = redis.call('HINCRBY', key, 'strikes', 1)
  if strikes == suspect_at and redis.call('HGET', key, 'cancel') ~= '1' then
    redis.call('HSET', key, 'suspect', '1')
  else
    redis.call('HDEL', key, 'suspect')
  end
end

local reclaimed = {}
for _, worker in ipairs(redis.call('SMEMBERS', KEYS[1])) do
  local leases = tag .. ':leases:' .. worker
  if not is_live[worker] then
    -- The list of live workers was read a moment ago. A worker that started since may hold leases
    -- and be missing in it, so a lease has to be older than a heartbeat may be.
    for _, id in ipairs(redis.call('ZRANGEBYSCORE', leases, '-inf', now - lease_ms)) do
      count_crash(id)
      release(tag, id, worker, now, ttls)
      reclaimed[#reclaimed + 1] = wake_up(tag, id)
    end
  end
  if redis.call('EXISTS', leases) == 0 then
    redis.call('SREM', KEYS[1], worker)
  end
end

-- The suspect of an agent that is overdue for longest. A worker that knows no suspects may have
-- taken one without striking it off here; it would stand in the way of the others for ever.
local function first_suspect(agent)
  local key = ready_key(tag, agent, '1')
  local found = redis.call('ZRANGEBYSCORE', key, '-inf', now, 'WITHSCORES', 'LIMIT', 0, 1)
  while found[1] and redis.call('HGET', run_key(tag, found[1]), 'status') ~= 'queued' do
    redis.call('ZREM', key, found[1])
    found = redis.call('ZRANGEBYSCORE', key, '-inf', now, 'WITHSCORES', 'LIMIT', 0, 1)
  end
  return found
end

local overdue = {}
local suspects = {}
for i = agents_from, #ARGV do
  local first = first_suspect(ARGV[i])
  if first[1] then
    suspects[#suspects + 1] = first
  end
  if limit > 0 then
    local ready = tag .. ':ready:' .. ARGV[i]
    for _, id in ipairs(redis.call('ZRANGEBYSCORE', ready, '-inf', now, 'LIMIT', 0, limit)) do
      overdue[#overdue + 1] = {id, redis.call('ZSCORE', ready, id)}
    end
  end
end

local cancelled = {}
for _, id in ipairs(redis.call('SMEMBERS', KEYS[3])) do
  if redis.call('ZSCORE', KEYS[2], id) then
    cancelled[#cancelled + 1] = id
  end
end

for _, status in ipairs({'completed', 'failed', 'cancelled'}) do
  prune(tag, tag .. ':status:' .. status, now, tonumber(ARGV[6]))
end
return {reclaimed, overdue, cancelled, redis.call('ZRANGE', KEYS[2], 0, -1), suspects}
