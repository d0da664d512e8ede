-- What every script begins with. Redis's clock is the only clock of the
-- storage: leases, deadlines and expiry never see a relay's own.

local time = redis.call('TIME')
local now_us = time[1] * 1000000 + time[2]
local now = math.floor(now_us / 1000)

-- int writes a number without its fraction and without an exponent, which Lua's
-- tostring uses from 1e14. It never rounds up: a lane that is due now must not
-- be due in a millisecond. Numbers are given to Redis by it where there are many:
-- Lua's own way, by %.17g, and even %.0f, take several times as long.
local function int(n)
  return string.format('%d', math.floor(n))
end

-- FAILING stands before the time in the scores of lanes whose last attempt
-- failed: they are due in an order of their own, so that thousands of them hide
-- no lane that can go on. A score without it is always allowed, and costs a
-- failing lane no more than its place in that order.
local FAILING = 1e15

-- lane_due returns when a lane is due, of its score (nil: at once), and whether
-- it waits among the failing ones.
local function lane_due(score)
  local due = tonumber(score or 0)
  if due >= FAILING then
    return due - FAILING, true
  end
  return due, false
end

-- fenced tells whether a session may no longer change anything: it is unknown
-- (Redis lost it), or its lease ended and its claims were given back.
local function fenced(sessions, session)
  local lease = redis.call('ZSCORE', sessions, session)
  return not lease or tonumber(lease) <= 0
end

-- DEALT_WITH stands in a claim in the place of a message that was dealt with. No
-- app pushes it: an empty entry, which some do, is a message that is none.
local DEALT_WITH = '\0dealt with'

-- is_list tells whether messages can be pushed to key.
local function is_list(key)
  local kind = redis.call('TYPE', key)['ok']
  return kind == 'list' or kind == 'none'
end

-- The score of a command among the served ones is the ms at which a service was last
-- seen to take from its queue, and half a ms more when it was one that has announced
-- itself: such services count as long as they live, and what they took says nothing
-- of others.
local function announced(score)
  return tonumber(score) % 1 ~= 0
end

-- served_at returns that score, or nil of a command that is not among them.
local function served_at(served, cmd)
  local score = redis.pcall('ZSCORE', served, cmd)
  return score and type(score) ~= 'table' and score or nil -- a table is an error: the key is of another type
end

-- taken_lately tells whether such a score is of the last minute. One that lies further
-- ahead was written before Redis's clock was set back.
local function taken_lately(score)
  return math.abs(now - score) <= 60000
end

-- note_taken notes that a service takes from the queue of a command, which had this
-- score, or nil, among the served ones. It writes once a minute.
local function note_taken(served, cmd, score)
  if score and not taken_lately(score) then
    redis.call('ZADD', served, 'XX', int(now), cmd)
  end
end

-- bury keeps what nobody can handle, in a bounded stream whose ids are times. `to` is
-- the list that it was for, if that is not the queue that it came from.
local function bury(dead, bound, queue, reason, detail, message, to)
  redis.call('XADD', dead, 'MAXLEN', '~', bound, '*',
    'queue', queue, 'reason', reason, 'detail', detail, 'to', to or '', 'message', message)
end

-- make_room lets the writes that follow go on when Redis is full: Redis refuses
-- commands that need memory only until a script has written, and this one
-- changes nothing on a key that never expires. Only for scripts that take little
-- or nothing more than they give back, without which a full Redis stays full.
local function make_room(key)
  redis.call('PERSIST', key)
end

-- held returns the error that a script gives which would end things by time, as
-- long as it must not: STEPPED when Redis's clock is not what the caller takes it
-- for, HELD and by how many ms it was set while that is less than a minute ago.
-- The key ends by the clock that was set, and must not outlive the hold when that
-- goes back once more.
--
-- Such scripts begin with KEYS 1 hold, ARGV 1 what the caller takes the time for
-- in µs, 2 µs that it may be wrong by, 3 ms of a hold.
local function held()
  if math.abs(now_us - ARGV[1]) > tonumber(ARGV[2]) then
    return redis.error_reply('STEPPED Redis has another time than its caller expects')
  end
  local left = redis.call('PTTL', KEYS[1])
  if left == -2 then
    return nil
  end
  if left == -1 or left > tonumber(ARGV[3]) then
    redis.call('PEXPIRE', KEYS[1], ARGV[3])
  end
  return redis.error_reply('HELD ' .. redis.call('GET', KEYS[1]))
end

-- bring_back gives what an index has later than `latest`, up to `highest` if that
-- is given, where nothing is written by the present clock, the time `to`: it was
-- written before Redis's clock was set back, and would wait for the clock to come
-- there again.
local function bring_back(index, latest, to, highest)
  local late = redis.call('ZRANGEBYSCORE', index, '(' .. int(latest), highest or '+inf', 'LIMIT', 0, 1000)
  if #late > 0 then
    make_room(index)
  end
  for _, member in ipairs(late) do
    redis.call('ZADD', index, int(to), member)
  end
end

-- without returns the lines of text, which may be nil, that do not begin with
-- prefix, and one that does, or nil.
local function without(text, prefix)
  if text == prefix then -- mostly
    return '', text
  end
  local left, found = {}, nil
  for line in string.gmatch(text or '', '[^\n]+') do
    if string.sub(line, 1, #prefix) == prefix then
      found = line
    else
      left[#left + 1] = line
    end
  end
  return table.concat(left, '\n'), found
end

-- counted_as names the count of an open record: its twin's and its command's.
local function counted_as(record)
  local twin, cmd = string.match(record or '', '^(%d+) %S+ %d+ %d+ (.*)$')
  return twin and twin .. ' ' .. cmd
end

-- tally adds to a count of open records: 1 for each that is opened, -1 for each
-- that is closed. A count that somebody else wrote over costs no message.
local function tally(counts, name, by)
  if not name or by == 0 then
    return
  end
  local n = redis.pcall('HINCRBY', counts, name, by)
  if type(n) == 'number' and n < 1 then
    redis.call('HDEL', counts, name)
  end
end

-- ending returns {uid, entry, …} of the requests whose score in an index is at
-- most `score`, until there are `most` of them or more than so many bytes. What
-- has no entry any more leaves the index.
local function ending(index, score, backlog, most, bytes)
  local result = {}
  local left = tonumber(bytes)
  for _, uid in ipairs(redis.call('ZRANGEBYSCORE', index, '-inf', score, 'LIMIT', 0, most)) do
    if left < 0 then
      break
    end
    local entry = redis.call('HGET', backlog, uid)
    if not entry then
      redis.call('ZREM', index, uid)
    else
      result[#result + 1] = uid
      result[#result + 1] = entry
      left = left - #entry
    end
  end
  return result
end

-- deadline_of returns when a request ends, in ms: its life counts from its `now`
-- (in s) when that is 0 to 24 h old, and otherwise from here; it is cut to the
-- longest. kind is 'for' (a life in s) or 'until' (an end in s).
local function deadline_of(start, kind, life, longest)
  start = tonumber(start) * 1000
  if start > now or now - start > 86400000 then
    start = now
  end
  local deadline = tonumber(life) * 1000
  if kind == 'for' then
    deadline = start + deadline
  end
  return int(math.max(0, math.min(deadline, now + longest)))
end

-- note_of returns what the relay notes on a backlog entry, and entry_of the entry:
-- what the relay gives the request stands before anything that an app wrote.
local function note_of(epoch, deadline, dialect)
  return '"msgbusd":{"epoch":"' .. epoch .. '","admitted":' .. int(now) .. ',"deadline":' .. deadline ..
    ',"dialect":"' .. dialect .. '"},'
end
local function entry_of(uid, source, destination, note, tail)
  return '{"ver":1,"uid":"' .. uid .. '","src":' .. source .. ',"dst":[' .. destination .. '],' .. note .. tail
end
