-- Append messages in one step, each once.
--
-- KEYS[1]  {tag}:history:<history>
-- KEYS[2]  {tag}:messages:<history>
-- ARGV     1 channel, 2 run id of the writer or '', 3 its fencing token,
--          then (run id or '', position, role, kind, data) for each message; a writer's positions
--          are consecutive
-- Answer   {'fenced'} | {'gap', next position} | {'stored', cursor of each message}

local FIELDS = 5
local run = ARGV[2]
local next = nil
if run ~= '' then
  if is_fenced(KEYS[1], ARGV[3]) or redis.call('HGET', KEYS[1], 'retracted') == ARGV[3] then
    return {'fenced'}
  end
  become_writer(KEYS[1], KEYS[2], run, ARGV[3])
  next = tonumber(redis.call('HGET', KEYS[1], 'next'))
  if tonumber(ARGV[5]) > next then
    return {'gap', next}
  end
end

local cursors = {}
local added = 0
local stored = nil
for i = 4, #ARGV, FIELDS do
  local position = tonumber(ARGV[i + 1])
  if next and position < next then
    -- A retry of a write whose answer was lost: answer with the cursor of then.
    if not stored then
      stored = {}
      for _, entry in ipairs(entries_of(KEYS[1], KEYS[2], run)) do
        local own = position_of(entry)
        if own then
          stored[own] = entry[1]
        end
      end
    end
    cursors[#cursors + 1] = stored[position] or ''
  else
    local cursor = redis.call('XADD', KEYS[2], '*', 'run', ARGV[i], 'pos', ARGV[i + 1],
      'role', ARGV[i + 2], 'kind', ARGV[i + 3], 'data', ARGV[i + 4])
    if ARGV[i] ~= '' then
      redis.call('HSETNX', KEYS[1], 'first:' .. ARGV[i], cursor)
    end
    cursors[#cursors + 1] = cursor
    added = added + 1
    if next then
      next = next + 1
    end
  end
end
if added > 0 then
  if next then
    redis.call('HSET', KEYS[1], 'next', next)
  end
  redis.call('HINCRBY', KEYS[1], 'count', added)
  redis.call('PUBLISH', ARGV[1], cursors[#cursors])
end
return {'stored', cursors}
