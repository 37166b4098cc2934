-- Put in front of every conversation script.
--
-- {tag}:messages:<history>, a stream. One entry is one message; its id is the cursor.
--   run   run id or ''     pos   position in the run     role, kind   as in the message
--   data  the message, JSON
-- {tag}:history:<history>, a hash:
--   token            the greatest fencing token seen; older writers are refused
--   retracted        the token that was used up by a retract
--   writer           the run that may write               next   its next position
--   count            messages in the stream
--   deleted          1 while only the token is left of a conversation
--   first:<run id>   entry id of the run's first message
-- {tag}:histories, a zset: conversations by the time (ms) of their last append

-- Whether a writer with this token comes too late.
local function is_fenced(history, token)
  return tonumber(token) < tonumber(redis.call('HGET', history, 'token') or 0)
end

-- The entries that a run wrote, oldest first.
local function entries_of(history, messages, run)
  local first = redis.call('HGET', history, 'first:' .. run)
  local own = {}
  if first then
    for _, entry in ipairs(redis.call('XRANGE', messages, first, '+')) do
      if entry[2][1] == 'run' and entry[2][2] == run then
        own[#own + 1] = entry
      end
    end
  end
  return own
end

-- The position of an entry in its run; nil for one that is damaged.
local function position_of(entry)
  for i = 1, #entry[2], 2 do
    if entry[2][i] == 'pos' and string.match(entry[2][i + 1], '^%d+$') and #entry[2][i + 1] < 16 then
      return tonumber(entry[2][i + 1])
    end
  end
end

-- The position behind the last of a run's entries. After a clear in the middle of the run, that is
-- more than their number.
local function next_position(own)
  for i = #own, 1, -1 do
    local position = position_of(own[i])
    if position then
      return position + 1
    end
  end
  return 0
end

-- Let a conversation that was deleted begin anew: it is not forgotten any more.
local function revive(history)
  if redis.call('HDEL', history, 'deleted') == 1 then
    redis.call('PERSIST', history)
  end
end

-- Make a run the writer. Its positions go on where it left off.
local function become_writer(history, messages, run, token)
  redis.call('HSET', history, 'token', token)
  if redis.call('HGET', history, 'writer') ~= run then
    redis.call('HSET', history, 'writer', run,
      'next', next_position(entries_of(history, messages, run)))
  end
end
