-- Admits requests of a claim in one step: each destination gets its uid, a
-- backlog entry, a deadline and a place on its lane, and the requests leave the
-- claim.
--
-- KEYS 1 sessions, 2 claim, 3 epoch, 4 backlog, 5 deadlines, 6 lanes, 7 stats,
--      then for each destination its counter, lane, lane requests, lane tries
-- ARGV 1 session, 2 a fresh epoch, 3 the epoch that the caller knows or '',
--      4 own twin id, 5 longest life in ms, 6 how many messages at the head of
--      the claim these are, or 0 for all that were seen of it, 7 how many those
--      are (a BLMOVE that nobody waits for any more may add to a claim),
--      8 number of destinations D, then D twin ids, then for each message: its `now` in s, 'for' or 'until',
--      its life or its end in s, tries, dialect, the entry's tail, the number
--      of its destinations and their positions from 1 to D
-- Returns {epoch, uid, uid, …} in the order of messages and destinations; the
-- error FENCED.

local max_number = 2 ^ 52 -- of a uid; the wire has room for the double

if fenced(KEYS[1], ARGV[1]) then
  return redis.error_reply('FENCED the session has ended')
end
-- Apps can reach the counters, and an error after the first write would lose
-- the claim: one that holds no usable number begins anew.
local first_dst = 7
local count = tonumber(ARGV[8])
local unsound = {}
for d = 1, count do
  local n = redis.pcall('GET', KEYS[first_dst + 4 * (d - 1) + 1])
  if n and not (type(n) == 'string' and string.match(n, '^%d+$') and tonumber(n) < max_number) then
    unsound[d] = true
  end
end

-- First, because it frees: a full Redis lets the rest go on.
if ARGV[6] == '0' then
  redis.call('LTRIM', KEYS[2], ARGV[7], -1)
else
  for _ = 1, tonumber(ARGV[6]) do
    while redis.call('LPOP', KEYS[2]) == DEALT_WITH do
    end
  end
end

-- The epoch ends with the Redis process and with its time as a master: after a
-- restart, a fail-over (also one back to a master of before) or a restored copy the
-- last moments may be gone, and with them used uids. The
-- numbering then goes on from the time in µs (`base`), so that none is used twice:
-- nobody sends a million messages a second to one twin, so all numbers in use are
-- behind it, also those that were forgotten, and Redis may come back with less
-- than it had to the same copy again and again, or with nothing. Only a clock that
-- was set back is behind the numbers; then they move ahead by a million (`jump`).
local server = redis.pcall('INFO', 'server')
local run_id = ''
if type(server) == 'string' then
  local from = string.find(server, 'run_id:', 1, true) or 1 -- a pattern alone takes longer to find
  run_id = string.match(server, 'run_id:(%x+)', from) or ''
end
local replication = redis.pcall('INFO', 'replication')
local history = ''
if type(replication) == 'string' then
  local from = string.find(replication, 'master_replid:', 1, true) or 1
  history = string.match(replication, 'master_replid:(%x+)', from) or ''
end
local known = redis.call('HMGET', KEYS[3], 'epoch', 'run_id', 'jump', 'base', 'history')
local epoch, jump, base = known[1], tonumber(known[3] or 0), tonumber(known[4] or 0)
if not epoch or (run_id ~= '' and known[2] ~= run_id) or (history ~= '' and known[5] and known[5] ~= history) then
  if epoch then
    jump = 1000000
  end
  if epoch or ARGV[3] ~= '' then
    base = now_us
  end
  epoch = ARGV[2]
  redis.call('HSET', KEYS[3], 'epoch', epoch, 'run_id', run_id, 'jump', int(jump), 'base', int(base), 'history', history)
elseif history ~= '' and not known[5] then
  redis.call('HSET', KEYS[3], 'history', history) -- it was made by an older relay
end

local failures = {}
for d = 1, count do
  local key = first_dst + 4 * (d - 1)
  if unsound[d] then
    redis.call('SET', KEYS[key + 1], int(now_us))
  end
  local lane = redis.call('HMGET', KEYS[key + 2], 'epoch', 'failures')
  if lane[1] ~= epoch then
    redis.call('HSET', KEYS[key + 2], 'epoch', epoch)
    local last = tonumber(redis.call('GET', KEYS[key + 1]) or 0)
    local ahead = last < base and base or last + jump
    if ahead > last then
      redis.call('SET', KEYS[key + 1], int(ahead))
    end
  end
  failures[d] = tonumber(lane[2] or 0)
  redis.call('ZADD', KEYS[6], 'NX', int(now), ARGV[8 + d])
end

-- each_message calls see(where its fields begin in ARGV, number of its
-- destinations) for each message.
local function each_message(see)
  local a = 9 + count
  while a <= #ARGV do
    local destinations = tonumber(ARGV[a + 6])
    see(a, destinations)
    a = a + 7 + destinations
  end
end

-- new_numbers gives a destination so many numbers for its messages. It leaves out
-- those of requests that wait, which are there when somebody has set the counter
-- back: then it goes on from the time.
local function new_numbers(d, most)
  local counter, dst, numbers = KEYS[first_dst + 4 * (d - 1) + 1], ARGV[8 + d], {}
  while #numbers < most do
    local missing = most - #numbers
    local before = redis.call('INCRBY', counter, int(missing)) - missing
    local uids = {}
    for i = 1, missing do
      uids[i] = dst .. '.' .. int(before + i)
    end
    each_value(KEYS[4], uids, function(i, entry)
      if entry then
        redis.call('SET', counter, int(math.max(before + i, now_us)))
        return false
      end
      numbers[#numbers + 1] = before + i
    end)
  end
  return numbers
end

local wanted, numbers, used = {}, {}, {} -- of each destination
each_message(function(a, destinations)
  for i = a + 7, a + 6 + destinations do
    local d = tonumber(ARGV[i])
    wanted[d] = (wanted[d] or 0) + 1
  end
end)
for d, most in pairs(wanted) do
  numbers[d], used[d] = new_numbers(d, most), 0
end

-- Entries are written before there are too many of them for Lua's memory: each
-- destination of a large message has one.
local entries, bytes = {}, 0
local function write_entries()
  in_calls('HSET', KEYS[4], entries)
  entries, bytes = {}, 0
end
local result = {epoch}
local deadlines, requests, tries = {}, {}, {}
each_message(function(a, destinations)
  local start, kind, life, tried, dialect, tail = unpack(ARGV, a, a + 5)
  local deadline = deadline_of(start, kind, life, ARGV[5])
  local note = note_of(epoch, deadline, dialect)
  for i = a + 7, a + 6 + destinations do
    local d = tonumber(ARGV[i])
    used[d] = used[d] + 1
    local n = int(numbers[d][used[d]])
    local uid = ARGV[8 + d] .. '.' .. n
    local entry = entry_of(uid, ARGV[4], ARGV[8 + d], note, tail)
    entries[#entries + 1] = uid
    entries[#entries + 1] = entry
    bytes = bytes + #entry
    if bytes > 1048576 then
      write_entries()
    end
    deadlines[#deadlines + 1] = deadline
    deadlines[#deadlines + 1] = uid
    add(requests, d, n, uid)
    add(tries, d, int(failures[d] + tried + 1), uid)
    result[#result + 1] = uid
  end
end)
write_entries()
in_calls('ZADD', KEYS[5], deadlines)
for d, on_lane in pairs(requests) do
  local key = first_dst + 4 * (d - 1)
  in_calls('ZADD', KEYS[key + 3], on_lane)
  in_calls('ZADD', KEYS[key + 4], tries[d])
end
redis.call('HINCRBY', KEYS[7], 'accepted', int(#result - 1))
return result
