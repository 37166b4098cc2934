-- Fail a run whose record cannot be read, so that nobody comes upon it again and its conversation
-- goes on. What is readable of the record stays.
--
-- KEYS[1]  {tag}:run:<id>
-- ARGV     1 tag, 2 run id, 3 worker id, 4 outcome (JSON), 5 event_ttl_ms, 6 run_ttl_ms, 7 pickup_ms,
--          8... agents in whose index of ready runs it may be, also as <version>!<agent>
-- Answer   1 if it was failed, 0 if it has ended before or is not there at all

local tag, id, worker = ARGV[1], ARGV[2], ARGV[3]
redis.pcall('ZREM', tag .. ':leases:' .. worker, id)
redis.pcall('SREM', tag .. ':cancelling', id)
for i = 8, #ARGV do
  redis.pcall('ZREM', ready_key(tag, ARGV[i], '0'), id)
  redis.pcall('ZREM', ready_key(tag, ARGV[i], '1'), id)
end
if not has_record(tag, id) then
  return 0
end
local run = redis.call('HMGET', KEYS[1], 'status', 'history', 'conversation')
if run[1] == 'completed' or run[1] == 'failed' or run[1] == 'cancelled' then
  return 0
end
local now = now_ms()
redis.call('HSET', KEYS[1], 'finished', now, 'ending', ARGV[4])
redis.call('ZREM', tag .. ':status:queued', id)
redis.call('ZREM', tag .. ':status:running', id)
set_status(tag, id, 'failed', tonumber(ARGV[5]))
redis.call('PEXPIRE', KEYS[1], ARGV[6])
pcall(count_run, tag, run[3] or '', now, {'unpriced', 1})
if run[2] then
  pcall(pass_on, tag, run[2], id, now, tonumber(ARGV[7]))
end
return 1
