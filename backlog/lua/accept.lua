-- Accepts requests of one source twin: each is pushed to its service's queue,
-- or answered with an error reply, exactly once, and noted as open until its
-- reply. What tells a repeat is written in the same step as the push, so a
-- repeat is always of something that is in Redis here.
--
-- A message with an epoch is told by its number, in a window of the last W
-- numbers of that epoch; four epochs a source are kept. A signed version 1
-- message is told by its signature too: nothing else covers its epoch.
--
-- KEYS 1 open, 2 open deadlines, 3 unread commands, 4 served commands, 5 lanes,
--      6 lane replies of the source, 7 replies, 8 replies' deadlines,
--      9 signatures, 10 seen, 11 to 14 the windows of four epochs,
--      15 sessions, 16 claim, 17 open counts, then the service's queue for each
--      message
-- ARGV 1 source twin, 2 epoch or '', 3 window W, 4 seconds that an unused epoch
--      is kept, 5 most unread commands, 6 most messages in a queue,
--      7 '1' for messages of the own twin, which no such bound holds back,
--      8 seconds that signatures are kept, 9 session or '' when no claim is at
--      stake, 10 most replies that wait for the source, 11 digest of the
--      signature over all of them or '', then for each message: kind ('deliver'
--      or 'refuse'), its number or '', digest of its signature or '', uid, life in ms, cmd, 'R' or 'L'
--      end of the queue, body (what the service gets, or the error reply),
--      position in the claim from 0 or ''
-- Returns an outcome a message: 'accepted', 'repeat', 'below_window',
-- 'queue_full' or 'wrong_type'; the errors FENCED, and REPLAYED when the signature
-- over all was accepted before. Accepted and repeated messages are marked as dealt
-- with in the claim.

if ARGV[9] ~= '' and fenced(KEYS[15], ARGV[9]) then
  return redis.error_reply('FENCED the session has ended')
end
if ARGV[11] ~= '' then
  if redis.call('HSETNX', KEYS[9], ARGV[11], '') == 0 then
    return redis.error_reply('REPLAYED the signature was accepted before')
  end
  redis.call('EXPIRE', KEYS[9], ARGV[8])
end

local source, epoch, window = ARGV[1], ARGV[2], tonumber(ARGV[3])

-- The source's epochs: field 0 to 3 holds "<epoch> <highest number> <last use>".
local slot, high
local fresh = false -- the slot belonged to an older epoch, which goes when this one comes
local windows_changed = false
local function load_window()
  local oldest
  for i = 0, 3 do
    local kept = redis.call('HGET', KEYS[10], i)
    local name, highest, used = nil, 0, 0
    if kept then
      name, highest, used = string.match(kept, '^(%x+) (%d+) (%d+)$') -- Store.Accept lets no other epoch in
    end
    used = tonumber(used)
    if used > now then
      used = used - 2 ^ 52 -- before Redis's clock was set back: earlier than all since
    end
    if name == epoch then
      slot, high = i, tonumber(highest)
      return
    end
    if not oldest or used < oldest then
      slot, oldest = i, used
    end
  end
  high = 0
  fresh = true
end

-- clear zeroes the bits of the numbers from a to b, of which there are fewer
-- than the window has, and which lie in it as on a ring.
local function clear(key, a, b)
  while a <= b do
    local bit = a % window
    if bit % 8 == 0 and b - a >= 7 then
      local bytes = math.floor(math.min(b - a + 1, window - bit) / 8)
      redis.call('SETRANGE', key, bit / 8, string.rep('\0', bytes))
      a = a + bytes * 8
    else
      redis.call('SETBIT', key, bit, 0)
      a = a + 1
    end
  end
end

-- seen tells whether the number was accepted; note_seen notes it.
local function seen(n)
  if n <= high - window then
    return 'below_window'
  end
  if n <= high and redis.call('GETBIT', KEYS[11 + slot], n % window) == 1 then
    return 'repeat'
  end
end
local function note_seen(n)
  local key = KEYS[11 + slot]
  if fresh or n - high >= window then
    redis.call('DEL', key)
    fresh = false
  elseif n > high then
    clear(key, high + 1, n - 1)
  end
  redis.call('SETBIT', key, n % window, 1)
  high = math.max(high, n)
  windows_changed = true
end

-- in_record is how a command stands in a record.
local function in_record(cmd)
  return (string.gsub(cmd, '%c', ' '))
end
local function open_here(cmd)
  return tonumber(redis.call('HGET', KEYS[17], source .. ' ' .. in_record(cmd)) or 0)
end

-- room tells why a message cannot be pushed for a service, if it cannot.
-- Replies that its source does not fetch count too: they are kept for it.
local function room(kind, queue, cmd)
  if kind == 'deliver' and not is_list(queue) then
    return 'wrong_type'
  end
  if ARGV[7] == '1' then
    return nil
  end
  if redis.call('ZCARD', KEYS[6]) >= tonumber(ARGV[10]) then
    return 'queue_full'
  end
  if kind ~= 'deliver' then
    return nil
  end
  -- Once the queue is half full, a twin may have as many requests open here as
  -- there is room left for the others: none can fill it alone.
  local free = ARGV[6] - redis.call('LLEN', queue)
  if free <= 0 or (free <= ARGV[6] / 2 and open_here(cmd) >= free) then
    return 'queue_full'
  end
  if not redis.call('ZSCORE', KEYS[4], cmd) and not redis.call('ZSCORE', KEYS[3], cmd)
    and redis.call('ZCARD', KEYS[3]) >= tonumber(ARGV[5]) then
    return 'queue_full'
  end
end

-- push gives a message to a service. A list that nobody reads ends with the
-- latest deadline of what is in it, unless somebody else made it.
local function push(queue, cmd, side, body, deadline)
  local ttl = redis.call('PTTL', queue)
  redis.call(side == 'L' and 'LPUSH' or 'RPUSH', queue, body)
  local unread = redis.call('ZSCORE', KEYS[3], cmd)
  if redis.call('ZSCORE', KEYS[4], cmd) or (ARGV[7] == '1' and not unread) then
    return
  end
  local latest = int(math.max(deadline, tonumber(unread or 0)))
  redis.call('ZADD', KEYS[3], latest, cmd)
  if ttl ~= -1 then
    redis.call('PEXPIREAT', queue, latest)
  end
end

-- latest_of leaves out all but the latest records of a source: one that sends
-- the same uid under ever new epochs must not make the field grow.
local function latest_of(twin, records, uid)
  local _, own = string.gsub('\n' .. records, '\n' .. twin .. ' ', '')
  local left = {}
  for line in string.gmatch(records, '[^\n]+') do
    if string.sub(line, 1, #twin + 1) == twin .. ' ' and own > 3 then
      own = own - 1
      tally(KEYS[17], line, -1)
      redis.call('ZREM', KEYS[2], string.match(line, '^%d+ %S+') .. ' ' .. uid)
    else
      left[#left + 1] = line
    end
  end
  return table.concat(left, '\n')
end

if epoch ~= '' then
  load_window()
end
local result = {}
local queue = 17
for a = 12, #ARGV, 9 do
  queue = queue + 1
  local kind, n, digest, uid = ARGV[a], tonumber(ARGV[a + 1]), ARGV[a + 2], ARGV[a + 3]
  local deadline = now + ARGV[a + 4]
  local cmd, side, body, position = ARGV[a + 5], ARGV[a + 6], ARGV[a + 7], ARGV[a + 8]
  local outcome
  if position ~= '' and redis.call('LINDEX', KEYS[16], position) == DEALT_WITH then
    outcome = 'repeat' -- the claim is handed out again after a failure
  end
  if not outcome and digest ~= '' and redis.call('HEXISTS', KEYS[9], digest) == 1 then
    outcome = 'repeat'
  end
  if not outcome and epoch ~= '' then
    outcome = seen(n)
  end
  if not outcome then
    outcome = room(kind, KEYS[queue], cmd)
  end
  if not outcome then
    outcome = 'accepted'
    local asked_by = source .. ' ' .. (epoch == '' and '-' or epoch)
    -- The push comes first: a full Redis refuses the first write or none.
    if kind == 'deliver' then
      push(KEYS[queue], cmd, side, body, deadline)
      -- A source that uses a uid again has forgotten the earlier request.
      local records, earlier = without(redis.call('HGET', KEYS[1], uid), asked_by .. ' ')
      tally(KEYS[17], earlier, -1)
      records = latest_of(source, records, uid)
      local record = asked_by .. ' ' .. int(deadline) .. ' ' .. int(now) .. ' ' .. in_record(cmd)
      tally(KEYS[17], record, 1)
      redis.call('HSET', KEYS[1], uid, records ~= '' and records .. '\n' .. record or record)
      redis.call('ZADD', KEYS[2], int(deadline), asked_by .. ' ' .. uid)
    else
      local id = asked_by .. ' ' .. uid
      redis.call('HSET', KEYS[7], id, body)
      redis.call('ZADD', KEYS[8], int(deadline), id)
      -- 50 ms: a published relay writes its backlog after our 200.
      redis.call('ZADD', KEYS[6], int(epoch == '' and now_us + 50000 or now_us), id)
      redis.call('ZADD', KEYS[5], 'NX', int(now), source)
    end
    if digest ~= '' then
      redis.call('HSET', KEYS[9], digest, '')
      redis.call('EXPIRE', KEYS[9], ARGV[8])
    end
    if epoch ~= '' then
      note_seen(n)
    end
  end
  if position ~= '' and (outcome == 'accepted' or outcome == 'repeat') then
    redis.call('LSET', KEYS[16], position, DEALT_WITH)
  end
  result[#result + 1] = outcome
end
if windows_changed then
  redis.call('HSET', KEYS[10], slot, epoch .. ' ' .. int(high) .. ' ' .. int(now))
  redis.call('EXPIRE', KEYS[10], ARGV[4])
  redis.call('EXPIRE', KEYS[11 + slot], ARGV[4])
end
return result
