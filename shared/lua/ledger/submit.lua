-- Accept a run, once.
--
-- KEYS[1]  {tag}:run:<id>
-- KEYS[2]  {tag}:conversation:<history>
-- KEYS[3]  {tag}:idempotency:<hash>:<scope>, or KEYS[1] again when there is no key
-- ARGV     1 tag, 2 prefix, 3 run id, 4 history, 5 conversation id or '', 6 agent, 7 priority,
--          8 what was submitted (JSON), 9 digest of agent and input, 10 policy,
--          11 idempotency_ttl_ms or 0, 12 event_ttl_ms, 13 run_ttl_ms, 14 pickup_ms,
--          15 version that readers and workers have to know
-- Answer   {'busy', active run id}
--          {'inactive'}                  its conversation takes no further runs
--          {'conflict', run id}          the key was used for another agent or input
--          {'new' | 'existing', run id, 1 if ready, interrupted run id or '', record}

local tag, prefix, id, history = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local policy = ARGV[10]
local ttls = {event_ms = tonumber(ARGV[12]), run_ms = tonumber(ARGV[13]), pickup_ms = tonumber(ARGV[14])}
local now = now_ms()
local has_key = KEYS[3] ~= KEYS[1]

local function answer(what, run, interrupted)
  local is_ready = 0
  -- Under an idempotency key a run that is alone may be answered, whose history is its own.
  local known = redis.call('HMGET', run_key(tag, run), 'status', 'history')
  if known[1] == 'queued'
      and redis.call('HGET', tag .. ':conversation:' .. known[2], 'active') == run then
    is_ready = 1
  end
  return {what, run, is_ready, interrupted, redis.call('HGETALL', run_key(tag, run))}
end

-- Whoever is told of the run counts on it, so the first one to submit it may not withdraw it now.
local function answer_known(run)
  redis.call('HSET', run_key(tag, run), 'repeated', '1')
  return answer('existing', run, '')
end

-- A client whose answer was lost submits the same run again.
if redis.call('EXISTS', KEYS[1]) == 1 then
  return answer_known(id)
end
if has_key then
  local known = redis.call('GET', KEYS[3])
  -- The record may have expired before the key did; then the key is free again.
  if known and redis.call('EXISTS', run_key(tag, known)) == 1 then
    if redis.call('HGET', run_key(tag, known), 'digest') ~= ARGV[9] then
      return {'conflict', known}
    end
    return answer_known(known)
  end
end

-- pcall: a record that is damaged costs itself.
local is_read, closed = pcall(is_closed, tag, ARGV[5])
if is_read and closed then
  return {'inactive'}
end

local active = redis.call('HGET', KEYS[2], 'active')
if active and policy == 'reject' then
  return {'busy', active}
end

redis.call('HSET', KEYS[1], 'new', ARGV[8], 'agent', ARGV[6], 'history', history,
  'conversation', ARGV[5], 'priority', ARGV[7], 'digest', ARGV[9], 'created', now,
  'attempts', 0, 'crashes', 0, 'version', ARGV[15], 'needs', ARGV[15])
set_status(tag, id, 'queued', ttls.event_ms)
redis.call('ZADD', tag .. ':runs:' .. history, now, id)
if ARGV[5] ~= '' then
  redis.call('ZADD', tag .. ':conversations', now, ARGV[5])
  pcall(touch_record, tag, ARGV[5], now)
end
if has_key then
  redis.call('SET', KEYS[3], id, 'PX', ARGV[11])
  redis.call('HSET', KEYS[1], 'key', KEYS[3])
end

local interrupted = ''
if not active then
  redis.call('HSET', KEYS[2], 'active', id)
  make_ready(tag, id, now + ttls.pickup_ms)
elseif policy == 'enqueue' then
  redis.call('RPUSH', tag .. ':waiting:' .. history, id)
else
  -- Those that wait to interrupt never started either, and would only be stopped when they do.
  local interrupting = tag .. ':interrupting:' .. history
  for _, overtaken in ipairs(redis.call('LRANGE', interrupting, 0, -1)) do
    take_from_line(tag, overtaken)
    end_run(tag, overtaken, 'cancelled', '{"status":"cancelled"}', now, ttls)
  end
  redis.call('RPUSH', interrupting, id)
  interrupted = active
  local state = redis.call('HMGET', run_key(tag, active), 'status', 'attempts')
  if state[1] == 'queued' and state[2] == '0' then
    -- It never started, so there is nothing to put in order: it ends here and the new one is next.
    take_from_line(tag, active)
    end_run(tag, active, 'cancelled', '{"status":"cancelled"}', now, ttls)
  else
    ask_to_stop(tag, active, prefix, policy == 'rollback', now)
  end
end
return answer('new', id, interrupted)
