-- Puts services' replies to other twins on their lanes, closes the open records
-- that they answer, and drops what the relay has seen of their claim: with them all
-- of it has been dealt with. An interim reply leaves its record open; one for a request
-- that is not open, or for a twin that does not fetch what waits for it, is late. Who
-- replies has taken a request, which is all that can be seen of a service whose queue is
-- never empty.
--
-- KEYS 1 sessions, 2 claim, 3 open, 4 open deadlines, 5 replies,
--      6 replies' deadlines, 7 lanes, 8 open counts, 9 ended, 10 served commands, then
--      the lane replies of each twin
-- ARGV 1 session, or '' for errors in place of replies, which are of no claim, 2 ms that
--      a reply without a record may wait, 3 µs from the acceptance of a request
--      without an epoch to its reply, 4 number of messages that were seen of the
--      claim, 5 most replies that wait for a twin for an interim one to join them,
--      6 number of twins T, then T twins that asked, then for each message: uid, which
--      of the twins from 1 to T, epoch or '-', the record's line in open or '' when
--      there is none, '1' when it is remembered, of an interim reply its number or
--      '0', else '', body
-- Returns 'sent' or 'late' for each message; the error FENCED, or STALE when what
-- is remembered is not all that is open under its uid.

if ARGV[1] ~= '' and fenced(KEYS[1], ARGV[1]) then
  return redis.error_reply('FENCED the session has ended')
end
local twins = tonumber(ARGV[6])
local first = 7 + twins
local uids = {}
for a = first, #ARGV, 7 do
  if ARGV[a + 3] ~= '' then
    uids[#uids + 1] = ARGV[a]
  end
end
local records = look_up(KEYS[3], uids)
for a = first, #ARGV, 7 do
  if ARGV[a + 4] == '1' and records[ARGV[a]] ~= ARGV[a + 3] then
    return redis.error_reply('STALE what is open is not what the caller remembers')
  end
end

local result = {}
local told = {} -- for who asks later what became of a request
local changed, closed, counts = {}, {}, {} -- uid → true, ids, name of a count → records closed
local is_sent, bodies, deadlines = {}, {}, {}
local on_lane, due = {}, {} -- of each twin: {score, id, …}, when its first reply is due

-- close takes away the record that a reply answers, and tells whether it was
-- there still.
local function close(uid, id, record)
  local left, open = without(records[uid], record)
  if open then
    records[uid], changed[uid] = left, true
    closed[#closed + 1] = id
    local name = counted_as(open)
    if name then
      counts[name] = (counts[name] or 0) + 1
    end
  end
  return open
end

-- interim_id tells whether the record of an interim reply is open and there is room for
-- it, and returns the id that it waits under.
local waiting = {} -- of each twin: replies that wait
local function interim_id(uid, at, id, record, number)
  waiting[at] = waiting[at] or redis.call('ZCARD', KEYS[10 + at])
  local _, open = without(records[uid], record)
  if not open or waiting[at] >= tonumber(ARGV[5]) then
    return nil
  end
  waiting[at] = waiting[at] + 1
  return id .. '/' .. (number == '0' and int(now_us + #result) or number)
end

for a = first, #ARGV, 7 do
  local uid, at, epoch, record, _, interim, body = unpack(ARGV, a, a + 6)
  at = tonumber(at)
  local id = ARGV[6 + at] .. ' ' .. epoch .. ' ' .. uid
  local open, deadline, accepted
  if record ~= '' then
    deadline, accepted = string.match(record, '^%d+ [%x-]+ (%d+) (%d+) ')
  end
  if interim ~= '' then
    open = interim_id(uid, at, id, record, interim)
    id = open or id
  elseif record ~= '' then
    open = close(uid, id, record)
  else -- one that came first is on its way
    open = not is_sent[id] and redis.call('HEXISTS', KEYS[5], id) == 0
  end
  if open then
    local not_before = now_us
    if epoch == '-' and accepted then
      not_before = math.max(now_us, math.min(now_us + ARGV[3], accepted * 1000 + ARGV[3]))
    end
    is_sent[id] = true
    bodies[#bodies + 1] = id
    bodies[#bodies + 1] = body
    deadlines[#deadlines + 1] = deadline or int(now + ARGV[2])
    deadlines[#deadlines + 1] = id
    -- The microseconds keep replies of one step in their order.
    add(on_lane, at, int(not_before + #result), id)
    due[at] = due[at] or int(not_before / 1000)
  end
  local outcome = open and 'sent' or 'late'
  if interim == '' then
    told[#told + 1] = uid .. ' ' .. outcome .. ' ' .. (accepted or 0) .. ' ' .. ARGV[6 + at]
  end
  result[#result + 1] = outcome
end

make_room(KEYS[2])
redis.call('LTRIM', KEYS[2], ARGV[4], '-1')
local left, empty = {}, {}
for uid in pairs(changed) do
  if records[uid] == '' then
    empty[#empty + 1] = uid
  else
    left[#left + 1] = uid
    left[#left + 1] = records[uid]
  end
end
in_calls('HDEL', KEYS[3], empty)
in_calls('HSET', KEYS[3], left)
in_calls('ZREM', KEYS[4], closed)
for name, n in pairs(counts) do
  tally(KEYS[8], name, -n)
  if ARGV[1] ~= '' then
    local cmd = string.match(name, ' (.*)$')
    note_taken(KEYS[10], cmd, served_at(KEYS[10], cmd))
  end
end
in_calls('HSET', KEYS[5], bodies)
in_calls('ZADD', KEYS[6], deadlines)
for at = 1, twins do
  if due[at] then
    in_calls('ZADD', KEYS[10 + at], on_lane[at])
    redis.call('ZADD', KEYS[7], 'NX', due[at], ARGV[6 + at])
  end
end
note_ended(KEYS[9], 'served', told)
return result
