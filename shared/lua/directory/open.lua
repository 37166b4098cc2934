-- Make a record if there is none, and say whether the conversation takes runs.
--
-- KEYS[1]  {tag}:record:<conversation>
-- ARGV     1 tag, 2 conversation id, 3 what the record says (JSON), 4 user or '', 5 agent, 6 channel,
--          7 title or '', 8 metadata (JSON), 9 idle_ms or '' for no limit,
--          10 work that it is made for, or ''; it takes no runs then, 11 '1' if it may be made
-- Answer   {'open' | 'closed', record} | {'absent'} it is not there, and may not be made

local tag, id = ARGV[1], ARGV[2]
local now = now_ms()
if redis.call('EXISTS', KEYS[1]) == 0 then
  if ARGV[11] ~= '1' then
    return {'absent'}
  end
  redis.call('HSET', KEYS[1], 'new', ARGV[3], 'user', ARGV[4], 'agent', ARGV[5], 'channel', ARGV[6],
    'title', ARGV[7], 'metadata', ARGV[8], 'created', now)
  touch_record(tag, id, now)
  if ARGV[10] ~= '' then
    close(tag, id, now)
    redis.call('HSET', KEYS[1], 'work', ARGV[10])
    redis.call('ZADD', tag .. ':unfinished', now, id)
  end
elseif ARGV[9] ~= '' and not is_closed(tag, id) and is_idle(tag, id, now, ARGV[9]) then
  close(tag, id, now)
end
return {is_closed(tag, id) and 'closed' or 'open', redis.call('HGETALL', KEYS[1])}
