-- Let a conversation take no further runs.
--
-- KEYS[1]  {tag}:record:<conversation>
-- ARGV     1 tag, 2 conversation id, 3 idle_ms, or '' to close it whatever happens in it
-- Answer   {'unknown'} | {'closed' | 'kept', record}; kept: it was closed before, or is not idle

local tag, id = ARGV[1], ARGV[2]
if redis.call('EXISTS', KEYS[1]) == 0 then
  return {'unknown'}
end
local what = 'kept'
local now = now_ms()
if not is_closed(tag, id) and (ARGV[3] == '' or is_idle(tag, id, now, ARGV[3])) then
  close(tag, id, now)
  what = 'closed'
end
return {what, redis.call('HGETALL', KEYS[1])}
