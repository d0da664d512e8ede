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

-- The epoch ends with the Redis process: after a restart, a fail-over or a
-- restored copy the last moments may be gone, and with them used uids. The
-- numbering then moves ahead, so that none is used twice: by a million, and at
-- least to the time in µs (`base`), for Redis may come back with less than it had
-- to the same copy again and again, or with nothing. Nobody sends a million
-- messages a second to one twin.
local server = redis.pcall('INFO', 'server')
local run_id = type(server) == 'string' and string.match(server, 'run_id:(%x+)') or ''
local known = redis.call('HMGET', KEYS[3], 'epoch', 'run_id', 'jump', 'base')
local epoch, jump, base = known[1], tonumber(known[3] or 0), tonumber(known[4] or 0)
if not epoch or (run_id ~= '' and known[2] ~= run_id) then
  if epoch then
    jump = 1000000
  end
  if epoch or ARGV[3] ~= '' then
    base = now_us
  end
  epoch = ARGV[2]
  redis.call('HSET', KEYS[3], 'epoch', epoch, 'run_id', run_id, 'jump', int(jump), 'base', int(base))
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
    local ahead = math.max(last + jump, base)
    if ahead > last then
      redis.call('SET', KEYS[key + 1], int(ahead))
    end
  end
  failures[d] = tonumber(lane[2] or 0)
  redis.call('ZADD', KEYS[6], 'NX', int(now), ARGV[8 + d])
end

local result = {epoch}
local a = 8 + count
while a < #ARGV do
  local deadline = deadline_of(ARGV[a + 1], ARGV[a + 2], ARGV[a + 3], ARGV[5])
  local destinations = tonumber(ARGV[a + 7])
  for i = 1, destinations do
    local d = tonumber(ARGV[a + 7 + i])
    local key = first_dst + 4 * (d - 1)
    local dst = ARGV[8 + d]
    local n, uid
    repeat
      if uid then -- it is of a request that waits: somebody has set the counter back
        redis.call('SET', KEYS[key + 1], int(math.max(n, now_us)))
      end
      n = redis.call('INCR', KEYS[key + 1])
      uid = dst .. '.' .. int(n)
    until redis.call('HSETNX', KEYS[4], uid, entry_of(uid, ARGV[4], dst, epoch, deadline, ARGV[a + 5], ARGV[a + 6])) == 1
    redis.call('ZADD', KEYS[5], deadline, uid)
    redis.call('ZADD', KEYS[key + 3], int(n), uid)
    redis.call('ZADD', KEYS[key + 4], int(failures[d] + ARGV[a + 4] + 1), uid)
    result[#result + 1] = uid
  end
  a = a + 7 + destinations
end
redis.call('HINCRBY', KEYS[7], 'accepted', #result - 1)
return result
