-- Take back a run that no worker ever leased and nobody else counts on, as if it had never been
-- submitted.
--
-- KEYS[1]  {tag}:run:<id>
-- KEYS[2]  {tag}:idempotency:<hash>:<scope>, or KEYS[1] again when there is no key
-- ARGV     1 tag, 2 run id, 3 pickup_ms
-- Answer   1 if it is gone, 0 if it was leased, submitted again or has ended

local tag, id = ARGV[1], ARGV[2]
local run = redis.call('HMGET', KEYS[1], 'status', 'attempts', 'history', 'conversation', 'repeated')
if not run[1] then
  return 1
end
if run[1] ~= 'queued' or run[2] ~= '0' or run[5] == '1' then
  return 0
end
take_from_line(tag, id)
redis.call('ZREM', tag .. ':status:queued', id)
redis.call('ZREM', tag .. ':runs:' .. run[3], id)
pass_on(tag, run[3], id, now_ms(), tonumber(ARGV[3]))
if run[4] == '' then
  redis.call('DEL', tag .. ':conversation:' .. run[3])
elseif redis.call('EXISTS', tag .. ':runs:' .. run[3]) == 0 then
  redis.call('ZREM', tag .. ':conversations', run[4])
end
redis.call('DEL', KEYS[1], tag .. ':events:' .. id)
if KEYS[2] ~= KEYS[1] and redis.call('GET', KEYS[2]) == id then
  redis.call('DEL', KEYS[2])
end
return 1
