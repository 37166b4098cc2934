-- Append messages in one step, each once.
--
-- KEYS[1]  {tag}:history:<history>
-- KEYS[2]  {tag}:messages:<history>
-- KEYS[3]  {tag}:histories
-- ARGV     1 channel, 2 run id of the writer or '', 3 its fencing token,
--          4 conversation id, or '' for the history of a run that is alone,
--          5 time to live of the conversation from here in ms or 0, 6 most messages to keep or 0,
--          7 most bytes of a writer's message that rides along with the hint,
--          then (run id or '', position, role, kind, data) for each message; a writer's positions
--          are consecutive
-- Hint     the cursor of the last message; if that is a writer's only one and no longer than 7 says,
--          a blank and its data behind it
-- Answer   {'fenced'} | {'gap', next position} | {'stored', cursor of each message}

-- Remove the oldest messages so that at most so many are left. A cut never comes between a call and
-- its results, and never removes what the writing run wrote: it may still have to be resumed.
local function trim(history, messages, most, run)
  local excess = redis.call('XLEN', messages) - most
  if excess <= 0 then
    return
  end
  local own = run ~= '' and redis.call('HGET', history, 'first:' .. run)
  local gone, start = {}, '-'
  while true do
    local page = redis.call('XRANGE', messages, start, '+', 'COUNT', 100)
    for _, entry in ipairs(page) do
      local role = entry[2][6]
      if entry[1] == own or (#gone >= excess and role ~= 'tool') then
        for _, each in ipairs(gone) do
          redis.call('XDEL', messages, each[1])
          if each[2] ~= entry[2][2] then
            redis.call('HDEL', history, 'first:' .. each[2])
          end
        end
        if #gone > 0 then -- or the number would be written as -0, which is none to Redis
          redis.call('HINCRBY', history, 'count', -#gone)
        end
        return
      end
      gone[#gone + 1] = {entry[1], entry[2][2]}
      start = '(' .. entry[1]
    end
    if #page < 100 then
      return -- results alone, to their end: nothing that could be cut
    end
  end
end

local FIELDS, FIRST = 5, 8
local run = ARGV[2]
local next = nil
if run ~= '' then
  if is_fenced(KEYS[1], ARGV[3]) or redis.call('HGET', KEYS[1], 'retracted') == ARGV[3] then
    return {'fenced'}
  end
  become_writer(KEYS[1], KEYS[2], run, ARGV[3])
  next = tonumber(redis.call('HGET', KEYS[1], 'next'))
  if tonumber(ARGV[FIRST + 1]) > next then
    return {'gap', next}
  end
end

local cursors = {}
local added = 0
local stored = nil
for i = FIRST, #ARGV, FIELDS do
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
  revive(KEYS[1])
  if ARGV[4] ~= '' then
    local at = redis.call('TIME')
    redis.call('ZADD', KEYS[3], at[1] * 1000 + math.floor(at[2] / 1000), ARGV[4])
  end
  local most = tonumber(ARGV[6])
  if most > 0 then
    trim(KEYS[1], KEYS[2], most, run)
  end
  if ARGV[5] ~= '0' then
    redis.call('PEXPIRE', KEYS[1], ARGV[5])
    redis.call('PEXPIRE', KEYS[2], ARGV[5])
  end
  local hint = cursors[#cursors]
  if added == 1 and next and #ARGV[#ARGV] <= tonumber(ARGV[7]) then
    hint = hint .. ' ' .. ARGV[#ARGV]
  end
  redis.call('PUBLISH', ARGV[1], hint)
end
return {'stored', cursors}
