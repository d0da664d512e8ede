-- Gives back what services had taken that have ended. What is on the list of a consumer
-- whose lease is gone, and stays so for a while, goes to the head of the command's queue,
-- in its order: after a Redis that was away all leases are gone at first. A request
-- says itself how often it came back, in the note that stands before anything else in
-- it: no table of such counts can outgrow Redis, and none can forget one. The third
-- time it goes to the dead letters, without the note, and so does what has no place for one.
--
-- A consumer is forgotten only when its list is empty and long after its end: Redis may
-- yet serve the BLMOVE of a process that was stopped.
--
-- An event tells once that a consumer has gone for good, as far as one can tell, in the step
-- that finds it: half a ms in the score says that it is told.
--
-- KEYS 1 hold, 2 consumers, 3 served commands, 4 dead letters, 5 the local queue, then for
--      each consumer its lease, its list and the queue of its command
-- ARGV 1 to 3 see held, 4 longest life in ms, 5 most messages, 6 most bytes, 7 bound of
--      the dead letters, 8 reason and 9 detail of what came back too often, 10 reason and
--      11 detail of what is no message, 12 ms from when a lease was found gone, then for
--      each consumer itself, as it stands in KEYS 2, and the request that publishes its end,
--      '' for none
-- Returns {how many went back, '1' when there are more, then of each that was buried its
-- reason and itself}; the errors STEPPED and HELD.

local wait = held()
if wait then
  return wait
end
local RETURNS_MOST = 3      -- of one request; the last one buries it
local LEASE_MOST_MS = 60000 -- one that is longer is of before Redis's clock was set back, or has no end
local KEPT_MS = 3600000     -- how long an ended consumer is looked after

local left, bytes = tonumber(ARGV[5]), tonumber(ARGV[6])
local given, buried, full = 0, {}, false
local dead = redis.call('TYPE', KEYS[4])['ok']
local can_bury = dead == 'stream' or dead == 'none'

local function lives(lease)
  local ttl = redis.call('PTTL', lease)
  if ttl == -1 or ttl > LEASE_MOST_MS then
    redis.call('PEXPIRE', lease, LEASE_MOST_MS)
  end
  return ttl ~= -2
end

-- counted returns how often a message has come back, with this time, the message without
-- its note, and the one with the note of now; nothing of what is no JSON object.
local function counted(message)
  local _, last, times = string.find(message, '^{"msgbusd":{"returned":(%d+)},')
  if not last then
    if not string.find(message, '^%s*{%s*"') then
      return nil
    end
    last, times = string.find(message, '{', 1, true), 0
  end
  local rest = string.sub(message, last + 1)
  times = (tonumber(times) or RETURNS_MOST) + 1 -- a program may have written anything there
  return times, '{' .. rest, '{"msgbusd":{"returned":' .. int(math.min(times, RETURNS_MOST)) .. '},' .. rest
end

-- give_back moves what is on a list, the latest first, so that the oldest is the first in
-- the end. RPOP frees memory before LPUSH takes it. It returns false when something is left.
local function give_back(list, queue)
  while true do
    local message = redis.call('LINDEX', list, '-1')
    if not message then
      return true
    end
    full = left <= 0 or bytes <= 0
    local times, plain, noted = counted(message)
    local ends = not times or times >= RETURNS_MOST
    if full or (ends and not can_bury) then
      return false
    end
    redis.call('RPOP', list)
    if ends then
      local why = times and 8 or 10
      bury(KEYS[4], ARGV[7], 'taken', ARGV[why], ARGV[why + 1], plain or message, queue)
      buried[#buried + 1] = ARGV[why]
      buried[#buried + 1] = plain or message
    else
      redis.call('LPUSH', queue, noted)
      given = given + 1
    end
    left, bytes = left - 1, bytes - #message
  end
end

-- emptied gives back what is on a list, and tells whether nothing is left. Nobody has taken
-- anything into a key of another type; a queue that is none may be mended.
local function emptied(list, queue)
  if redis.call('TYPE', list)['ok'] ~= 'list' then
    return true
  end
  return is_list(queue) and give_back(list, queue)
end

-- note_announced notes that those who take from a command's queue have announced themselves.
local function note_announced(consumer)
  local cmd = string.match(consumer, ' (.*)$')
  local seen = cmd and served_at(KEYS[3], cmd)
  if seen and not announced(seen) then
    redis.call('ZADD', KEYS[3], 'XX', int(seen) .. '.5', cmd)
  end
end

-- tell publishes that a consumer has gone, and notes that it has been told.
local function tell(consumer, ended, event)
  redis.call('ZADD', KEYS[2], int(ended) .. '.5', consumer)
  if event ~= '' and is_list(KEYS[5]) then
    redis.call('RPUSH', KEYS[5], event)
  end
end

make_room(KEYS[2])
for i = 13, #ARGV, 2 do
  local first = 6 + (i - 13) / 2 * 3
  local consumer, event, lease, list, queue = ARGV[i], ARGV[i + 1], unpack(KEYS, first, first + 2)
  local ended = tonumber(redis.call('ZSCORE', KEYS[2], consumer) or nil)
  if not ended then
    -- It has stopped since it was looked up.
  elseif lives(lease) then
    if ended ~= 0 then
      redis.call('ZADD', KEYS[2], '0', consumer)
    end
    note_announced(consumer)
  else
    if ended <= 0 or ended > now then
      ended = now
      redis.call('ZADD', KEYS[2], int(now), consumer)
    end
    local gone = now - ended
    if gone >= tonumber(ARGV[12]) then
      if ended % 1 == 0 then
        tell(consumer, ended, event)
      end
      if emptied(list, queue) and gone > KEPT_MS then
        redis.call('ZREM', KEYS[2], consumer)
      end
    end
  end
  if full then
    break
  end
end
return {int(given), full and '1' or '', unpack(buried)}
