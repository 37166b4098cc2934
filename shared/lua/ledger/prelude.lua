-- Put in front of every ledger script. `tag` is the hash tag of the partition; every key that a
-- script builds starts with it, so all of them lie in the slot of the declared KEYS.
--
-- {tag}:run:<id>, a hash:
--   new           what was submitted, JSON          status     queued|running|completed|failed|cancelled
--   agent         string                            created    ms, server time
--   history       id of its history                 started    ms, of the first lease
--   conversation  conversation id or ''             finished   ms
--   priority      0..9                              worker     who holds or last held the lease
--   digest        hash of agent and input           token      fencing token of that lease
--   cancel        '1' once asked to stop            attempts   leases so far
--   rollback      '1' once asked to be removed      crashes    leases lost by a worker's death
--   ending        outcome, JSON                     strikes    crashes since its last progress
--   key           its idempotency key, a key
--   repeated      '1' once submitted again          suspect    '1' while one more would fail it
--   version       which one a reader has to know    needs      which one a worker has to know

local function now_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function run_key(tag, id)
  return tag .. ':run:' .. id
end

-- Whether there is a record. An index may name a run whose record is lost, or is something else.
local function has_record(tag, id)
  return redis.call('TYPE', run_key(tag, id)).ok == 'hash'
end

-- Change the status: in the record, in the indexes and in the event log; tell watchers.
local function set_status(tag, id, to, event_ttl_ms)
  local key = run_key(tag, id)
  local run = redis.call('HMGET', key, 'status', 'created', 'worker', 'attempts', 'rollback')
  redis.call('HSET', key, 'status', to)
  if run[1] then
    redis.call('ZREM', tag .. ':status:' .. run[1], id)
  end
  local created = run[2] and string.match(run[2], '^%d+$') or now_ms()
  redis.call('ZADD', tag .. ':status:' .. to, created, id)
  local events = tag .. ':events:' .. id
  -- pcall: what watchers are told must not keep a run from going on, whatever lies under that key.
  redis.pcall('XADD', events, 'MAXLEN', '~', 20000, '*', 'type', 'status', 'status', to,
    'worker', run[3] or '', 'attempt', run[4] or 0,
    'rolled_back', to == 'cancelled' and run[5] or '0')
  redis.call('PEXPIRE', events, event_ttl_ms)
  redis.call('PUBLISH', tag .. ':notify:run:' .. id, to)
end

-- Which version of workers a run needs, by what its record says.
local function needed_version(needs)
  return tonumber(needs or 1) or 1
end

-- Where a ready run is: suspects are kept apart, since a worker takes them one at a time, and so are
-- runs that need a newer version, where older workers do not look. No agent's name has a '!'.
local function ready_key(tag, agent, suspect, needs)
  local version = needed_version(needs)
  return tag .. (suspect == '1' and ':suspects:' or ':ready:')
    .. (version > 1 and string.format('%d!', version) or '') .. agent
end

-- Let any worker that serves the agent take the run. It is overdue, so that sweeps take it without
-- having been rung, from `due` on.
local function make_ready(tag, id, due)
  local run = redis.call('HMGET', run_key(tag, id), 'agent', 'suspect', 'needs')
  redis.call('ZADD', ready_key(tag, run[1], run[2], run[3]), due, id)
  if needed_version(run[3]) > 1 then
    redis.call('SADD', tag .. ':newer', string.format('%d!', needed_version(run[3])) .. run[1])
  end
end

-- Take a run that never started, and so is no suspect, out of wherever it waits.
local function take_from_line(tag, id)
  local run = redis.call('HMGET', run_key(tag, id), 'agent', 'history', 'needs')
  redis.call('ZREM', ready_key(tag, run[1], false, run[3]), id)
  redis.call('LREM', tag .. ':interrupting:' .. run[2], 0, id)
  redis.call('LREM', tag .. ':waiting:' .. run[2], 0, id)
end

-- What a caller needs to ring a worker for a run: {id, agent, priority}.
local function wake_up(tag, id)
  local run = redis.call('HMGET', run_key(tag, id), 'agent', 'priority')
  return {id, run[1], run[2]}
end

-- The active run of a conversation is over: the first of the waiting ones becomes active and ready.
-- Answers its wake-up, or an empty table.
local function pass_on(tag, history, id, now, pickup_ms)
  local conversation = tag .. ':conversation:' .. history
  if redis.call('HGET', conversation, 'active') ~= id then
    return {}
  end
  local next = redis.call('LPOP', tag .. ':interrupting:' .. history)
    or redis.call('LPOP', tag .. ':waiting:' .. history)
  if not next then
    redis.call('HDEL', conversation, 'active')
    return {}
  end
  redis.call('HSET', conversation, 'active', next)
  make_ready(tag, next, now + pickup_ms)
  return wake_up(tag, next)
end

-- Take runs that are forgotten out of an index by time of creation. That time alone does not tell:
-- a run is forgotten a while after its end, and may have waited for long.
local function prune(tag, index, now, run_ttl_ms)
  local old = redis.call('ZRANGEBYSCORE', index, '-inf', now - run_ttl_ms, 'LIMIT', 0, 100)
  for _, id in ipairs(old) do
    if redis.call('EXISTS', run_key(tag, id)) == 0 then
      redis.call('ZREM', index, id)
    end
  end
end

-- The run is over: outcome, expiry, and the conversation's next run (see pass_on).
-- `totals` is what it adds to the totals of its conversation, see count_run.
local function end_run(tag, id, to, ending, now, ttls, totals)
  local key = run_key(tag, id)
  local run = redis.call('HMGET', key, 'history', 'conversation', 'key')
  redis.call('HSET', key, 'finished', now, 'ending', ending)
  redis.call('HDEL', key, 'suspect')
  set_status(tag, id, to, ttls.event_ms)
  redis.call('SREM', tag .. ':cancelling', id)
  redis.call('PEXPIRE', key, ttls.run_ms)
  -- An idempotency key is forgotten with its run, if not before.
  if run[3] and redis.call('PTTL', run[3]) > ttls.run_ms then
    redis.call('PEXPIRE', run[3], ttls.run_ms)
  end
  -- pcall: a record that is damaged must not keep a run from ending.
  pcall(count_run, tag, run[2] or '', now, totals)
  local next = pass_on(tag, run[1], id, now, ttls.pickup_ms)
  prune(tag, tag .. ':runs:' .. run[1], now, ttls.run_ms)
  if run[2] == '' then
    redis.call('PEXPIRE', tag .. ':conversation:' .. run[1], ttls.run_ms)
    redis.call('PEXPIRE', tag .. ':runs:' .. run[1], ttls.run_ms)
  end
  return next
end

-- Ask the run's worker, or the one that takes it next, to stop it.
local function ask_to_stop(tag, id, prefix, rollback, now)
  local key = run_key(tag, id)
  local run = redis.call('HMGET', key, 'status', 'worker', 'agent', 'needs')
  redis.call('HSET', key, 'cancel', '1')
  -- It is closed and not executed any more, so it can do no harm.
  redis.call('HDEL', key, 'suspect')
  redis.call('ZREM', ready_key(tag, run[3], '1', run[4]), id)
  if rollback then
    redis.call('HSET', key, 'rollback', '1')
  end
  redis.call('SADD', tag .. ':cancelling', id)
  if run[1] == 'running' then
    redis.call('PUBLISH', prefix .. ':control:' .. run[2], id)
  else
    make_ready(tag, id, now)
  end
end

-- Give the lease back without an outcome.
local function release(tag, id, worker, now, ttls)
  redis.call('ZREM', tag .. ':leases:' .. worker, id)
  set_status(tag, id, 'queued', ttls.event_ms)
  -- Nobody is rung for a suspect with any effect, so sweeps need not wait for that.
  local is_suspect = redis.call('HGET', run_key(tag, id), 'suspect') == '1'
  make_ready(tag, id, is_suspect and now or now + ttls.pickup_ms)
end
