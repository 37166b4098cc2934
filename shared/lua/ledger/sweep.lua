-- One worker's look around in one partition.
--
-- KEYS[1]  {tag}:holders
-- KEYS[2]  {tag}:leases:<sweeping worker>
-- KEYS[3]  {tag}:cancelling
-- ARGV     1 tag, 2 how many overdue runs to name, 3 lease_ms, 4 event_ttl_ms, 5 retake_ms,
--          6 run_ttl_ms, 7 strikes of a suspect (0: there are none),
--          8 n, then n ids of live workers, then the agents that the sweeper serves
-- Answer   {reclaimed {{id, agent, priority}...}, overdue {{id, since}...}, cancelled {id...},
--           leased {id...}, suspects {{id, since}...}, damaged {what is not as it should be...}}
--          at most one suspect of an agent
--
-- Damage costs what is damaged: a lease or a ready run without a record is forgotten, and what
-- cannot be read is named and passed over, so that the sweep goes on for all others.

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

local damaged = {}

-- Do something about `what`, and go on without it if that is not possible.
local function attempt(what, work)
  local is_done = pcall(work)
  if not is_done then
    damaged[#damaged + 1] = what
  end
  return is_done
end

local reclaimed = {}

local function reclaim(id, worker, leases)
  if not has_record(tag, id) then
    redis.call('ZREM', leases, id)
    damaged[#damaged + 1] = id
    return
  end
  count_crash(id)
  release(tag, id, worker, now, ttls)
  reclaimed[#reclaimed + 1] = wake_up(tag, id)
end

local function look_after(worker)
  local leases = tag .. ':leases:' .. worker
  if not is_live[worker] then
    -- The list of live workers was read a moment ago. A worker that started since may hold leases
    -- and be missing in it, so a lease has to be older than a heartbeat may be.
    for _, id in ipairs(redis.call('ZRANGEBYSCORE', leases, '-inf', now - lease_ms)) do
      if not attempt(id, function() reclaim(id, worker, leases) end) then
        redis.call('ZREM', leases, id)
      end
    end
  end
  if redis.call('EXISTS', leases) == 0 then
    redis.call('SREM', KEYS[1], worker)
  end
end

attempt(KEYS[1], function()
  for _, worker in ipairs(redis.call('SMEMBERS', KEYS[1])) do
    attempt(tag .. ':leases:' .. worker, function() look_after(worker) end)
  end
end)

-- The suspect of an agent that is overdue for longest. A worker that knows no suspects may have
-- taken one without striking it off here; it would stand in the way of the others for ever.
local function first_suspect(agent)
  local key = ready_key(tag, agent, '1')
  local found = redis.call('ZRANGEBYSCORE', key, '-inf', now, 'WITHSCORES', 'LIMIT', 0, 1)
  while found[1] and not (has_record(tag, found[1])
      and redis.call('HGET', run_key(tag, found[1]), 'status') == 'queued') do
    redis.call('ZREM', key, found[1])
    found = redis.call('ZRANGEBYSCORE', key, '-inf', now, 'WITHSCORES', 'LIMIT', 0, 1)
  end
  return found
end

local overdue = {}
local suspects = {}

local function find_suspect(agent)
  local first = first_suspect(agent)
  if first[1] then
    suspects[#suspects + 1] = first
  end
end

local function find_overdue(ready)
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', ready, '-inf', now, 'LIMIT', 0, limit)) do
    if has_record(tag, id) then
      overdue[#overdue + 1] = {id, redis.call('ZSCORE', ready, id)}
    else
      -- It would be found again and again, in the place of others.
      redis.call('ZREM', ready, id)
      damaged[#damaged + 1] = id
    end
  end
end

for i = agents_from, #ARGV do
  attempt(ready_key(tag, ARGV[i], '1'), function() find_suspect(ARGV[i]) end)
  if limit > 0 then
    local ready = tag .. ':ready:' .. ARGV[i]
    attempt(ready, function() find_overdue(ready) end)
  end
end

local leased = {}
attempt(KEYS[2], function()
  for _, id in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
    if has_record(tag, id) then
      leased[#leased + 1] = id
    else
      redis.call('ZREM', KEYS[2], id)
      damaged[#damaged + 1] = id
    end
  end
end)

local cancelled = {}
attempt(KEYS[3], function()
  for _, id in ipairs(redis.call('SMEMBERS', KEYS[3])) do
    if redis.call('ZSCORE', KEYS[2], id) then
      cancelled[#cancelled + 1] = id
    end
  end
end)

for _, status in ipairs({'completed', 'failed', 'cancelled'}) do
  local index = tag .. ':status:' .. status
  attempt(index, function() prune(tag, index, now, tonumber(ARGV[6])) end)
end
return {reclaimed, overdue, cancelled, leased, suspects, damaged}
