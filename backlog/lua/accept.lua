-- Accepts requests of one source twin: each is pushed to its service's queue,
-- or answered by the relay itself, exactly once, and noted as open until its
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
--      15 sessions, 16 claim, 17 open counts, 18 retained events, 19 subscribers,
--      20 streams, then the service's queue for each command, then the streams of effects
-- ARGV 1 source twin, 2 epoch or '', 3 window W, 4 seconds that an unused epoch
--      is kept, 5 most unread commands, 6 most messages in a queue,
--      7 '1' for messages of the own twin, which no such bound holds back,
--      8 seconds that signatures are kept, 9 session or '' when no claim is at
--      stake, 10 most replies that wait for the source, 11 digest of the
--      signature over all of them or '', 12 number of commands C, then C commands,
--      then for each message: 'R' or 'L' end of the queue, 'r' or 'l' for a request
--      that nobody answers, or 'reply', which of the commands from 1 to C, its number or '', digest of its signature or '', uid,
--      life in ms, body (what the service gets, or the reply, or '' for none),
--      position in the claim from 0 or '', effect or '' (effects.lua)
-- Returns the time in ms, then an outcome a message: 'accepted', 'repeat',
-- 'below_window', 'queue_full' or 'wrong_type'; the errors FENCED, and REPLAYED when
-- the signature over all was accepted before. Accepted and repeated messages are marked as dealt
-- with in the claim.

if ARGV[9] ~= '' and fenced(KEYS[15], ARGV[9]) then
  return redis.error_reply('FENCED the session has ended')
end
local source, epoch, window, own = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[7] == '1'
local asked_by = source .. ' ' .. (epoch == '' and '-' or epoch)
local first = 13 + ARGV[12] -- of the messages in ARGV

-- What is known of all messages: which of their signatures were accepted before,
-- and which requests are open under their uids.
local digests, uids = {}, {}
if ARGV[11] ~= '' then
  digests[1] = ARGV[11]
end
for a = first, #ARGV, 9 do
  if ARGV[a + 3] ~= '' then
    digests[#digests + 1] = ARGV[a + 3]
  end
  if ARGV[a] == 'R' or ARGV[a] == 'L' then
    uids[#uids + 1] = ARGV[a + 4]
  end
end
local signed = look_up(KEYS[9], digests)
if signed[ARGV[11]] then
  return redis.error_reply('REPLAYED the signature was accepted before')
end
local records = look_up(KEYS[1], uids)

-- The source's epochs: field 0 to 3 holds "<epoch> <highest number> <last use>".
-- The numbers up to `stored` are in the window that Redis has, those that are
-- accepted here in `noted`.
local slot, stored, high
local fresh = false -- the slot belonged to an older epoch, which goes when this one comes
local noted, is_noted = {}, {}
local function load_window()
  local oldest
  for i, kept in ipairs(redis.call('HMGET', KEYS[10], '0', '1', '2', '3')) do
    local name, highest, used = nil, 0, 0
    if kept then
      name, highest, used = string.match(kept, '^(%x+) (%d+) (%d+)$') -- Store.Accept lets no other epoch in
    end
    used = tonumber(used)
    if used > now then
      used = used - 2 ^ 52 -- before Redis's clock was set back: earlier than all since
    end
    if name == epoch then
      slot, high = i - 1, tonumber(highest)
      return
    end
    if not oldest or used < oldest then
      slot, oldest = i - 1, used
    end
  end
  high = 0
  fresh = true
end

-- seen tells whether the number was accepted; note_seen notes it. A table in which
-- numbers are names may take memory for all that are smaller, so text is in it.
local function seen(text)
  local n = tonumber(text)
  if n <= high - window then
    return 'below_window'
  end
  if is_noted[text] or (n <= stored and redis.call('GETBIT', KEYS[11 + slot], int(n % window)) == 1) then
    return 'repeat'
  end
end
local function note_seen(text)
  local n = tonumber(text)
  noted[#noted + 1] = n
  is_noted[text] = true
  high = math.max(high, n)
end

-- fill writes the bits of the numbers from a to b, of which there are fewer than
-- the window has, and which lie in it as on a ring.
local function fill(key, a, b, one)
  while a <= b do
    local bit = a % window
    if bit % 8 == 0 and b - a >= 7 then
      local bytes = math.floor(math.min(b - a + 1, window - bit) / 8)
      redis.call('SETRANGE', key, int(bit / 8), string.rep(one and '\255' or '\0', bytes))
      a = a + bytes * 8
    else
      redis.call('SETBIT', key, int(bit), one and '1' or '0')
      a = a + 1
    end
  end
end

-- store_window brings the window to the highest number: those above what it had
-- have not come, but for those that were noted.
local function store_window()
  local key = KEYS[11 + slot]
  local empty = fresh or high - stored >= window
  if empty then
    redis.call('DEL', key)
  end
  table.sort(noted)
  local next, i = stored + 1, 1 -- the first number of which nothing is written, and of the list
  while noted[i] do
    local a = noted[i]
    local b = a
    while noted[i + 1] == b + 1 do
      i, b = i + 1, b + 1
    end
    i = i + 1
    if not empty then
      fill(key, next, a - 1, false)
    end
    fill(key, math.max(a, high - window + 1), b, true)
    next = math.max(next, b + 1)
  end
  redis.call('HSET', KEYS[10], int(slot), epoch .. ' ' .. int(high) .. ' ' .. int(now))
  redis.call('EXPIRE', KEYS[10], ARGV[4])
  redis.call('EXPIRE', key, ARGV[4])
end

-- queue_of returns what is known of a service's queue, and what is to be pushed
-- to it. It has no length when its key is of another type.
local queues = {}
local function queue_of(c)
  local queue = queues[c]
  if not queue then
    local key, cmd = KEYS[20 + c], ARGV[12 + c]
    queue = {key = key, cmd = cmd, length = list_length(key), left = {}, right = {}}
    queue.in_record = string.gsub(cmd, '%c', ' ')
    queue.count = source .. ' ' .. queue.in_record
    queue.served = redis.call('ZSCORE', KEYS[4], cmd)
    if queue.served then
      queue.emptied = queue.length == 0 -- so a service has taken all that came before
    else
      queue.unread = tonumber(redis.call('ZSCORE', KEYS[3], cmd) or nil)
      queue.ttl = redis.call('PTTL', key)
    end
    queues[c] = queue
  end
  return queue
end

-- What the bounds look at, read when the first message needs it.
local opened = {} -- name of a count → by how much more requests are open
local function open_here(queue)
  queue.open = queue.open or tonumber(redis.call('HGET', KEYS[17], queue.count) or 0) or 0
  return queue.open + (opened[queue.count] or 0)
end
local waiting, unread
local function replies_waiting()
  waiting = waiting or redis.call('ZCARD', KEYS[6])
  return waiting
end
local function commands_unread()
  unread = unread or redis.call('ZCARD', KEYS[3])
  return unread
end

-- room tells why a message cannot be pushed for a service, if it cannot.
-- Replies that its source does not fetch count too: they are kept for it. Requests
-- that nobody answers have no record by which they could be counted, so all of them
-- together fill half of a queue.
local function room(queue, unanswered)
  if queue and not queue.length then
    return 'wrong_type'
  end
  if own then
    return nil
  end
  if replies_waiting() >= tonumber(ARGV[10]) then
    return 'queue_full'
  end
  if not queue then
    return nil
  end
  -- Once the queue is half full, a twin may have as many requests open here as
  -- there is room left for the others: none can fill it alone.
  local free = ARGV[6] - queue.length
  if free <= 0 or (free <= ARGV[6] / 2 and (unanswered or open_here(queue) >= free)) then
    return 'queue_full'
  end
  if not queue.served and not queue.unread and commands_unread() >= tonumber(ARGV[5]) then
    return 'queue_full'
  end
end

-- push gives a message to a service. A list that nobody reads ends with the
-- latest deadline of what is in it, unless somebody else made it.
local function push(queue, side, body, deadline)
  local bodies = (side == 'L' or side == 'l') and queue.left or queue.right
  bodies[#bodies + 1] = body
  queue.length = queue.length + 1
  if queue.served or (own and not queue.unread) then
    return
  end
  if not queue.unread and not own then
    unread = commands_unread() + 1
  end
  queue.unread = math.max(deadline, queue.unread or 0)
  queue.ends = queue.unread
end

local function count(name, by)
  if name then
    opened[name] = (opened[name] or 0) + by
  end
end

-- latest_of leaves out all but the latest records of a source: one that sends
-- the same uid under ever new epochs must not make the field grow.
local forgotten = {}
local function latest_of(twin, lines, uid)
  local _, of_twin = string.gsub('\n' .. lines, '\n' .. twin .. ' ', '')
  local left = {}
  for line in string.gmatch(lines, '[^\n]+') do
    if string.sub(line, 1, #twin + 1) == twin .. ' ' and of_twin > 3 then
      of_twin = of_twin - 1
      count(counted_as(line), -1)
      forgotten[#forgotten + 1] = string.match(line, '^%d+ %S+') .. ' ' .. uid
    else
      left[#left + 1] = line
    end
  end
  return table.concat(left, '\n')
end

-- open notes a request as open until its reply.
local changed, deadlines = {}, {}
local now_text = int(now)
local function open(queue, uid, deadline)
  local record = asked_by .. ' ' .. deadline .. ' ' .. now_text .. ' ' .. queue.in_record
  if records[uid] then
    -- A source that uses a uid again has forgotten the earlier request.
    local others, earlier = without(records[uid], asked_by .. ' ')
    count(counted_as(earlier), -1)
    others = latest_of(source, others, uid)
    records[uid] = others ~= '' and others .. '\n' .. record or record
  else
    records[uid] = record
  end
  count(queue.count, 1)
  changed[uid] = true
  deadlines[#deadlines + 1] = deadline
  deadlines[#deadlines + 1] = asked_by .. ' ' .. uid
end

-- answer sends the reply that the relay itself makes.
local answered, replies, reply_deadlines = {}, {}, {}
local function answer(id, body, deadline)
  if waiting and not answered[id] and not redis.call('ZSCORE', KEYS[6], id) then
    waiting = waiting + 1
  end
  answered[id] = true
  replies[#replies + 1] = id
  replies[#replies + 1] = body
  reply_deadlines[#reply_deadlines + 1] = deadline
  reply_deadlines[#reply_deadlines + 1] = id
end

if epoch ~= '' then
  load_window()
  stored = high
end
local result, dealt_with, effects = {}, {}, {}
local signatures = {}
local function sign(digest)
  if digest ~= '' then
    signed[digest] = true
    signatures[#signatures + 1] = digest
    signatures[#signatures + 1] = ''
  end
end
sign(ARGV[11])
for a = first, #ARGV, 9 do
  local kind, c, n, digest, uid, life, body, position, effect = unpack(ARGV, a, a + 8)
  local queue, outcome
  effect = effect ~= '' and cjson.decode(effect)
  if position ~= '' and redis.call('LINDEX', KEYS[16], position) == DEALT_WITH then
    outcome = 'repeat' -- the claim is handed out again after a failure
  end
  if signed[digest] then
    outcome = 'repeat'
  end
  if not outcome and epoch ~= '' then
    outcome = seen(n)
  end
  if not outcome then
    queue = kind ~= 'reply' and queue_of(tonumber(c)) or nil
    outcome = room(queue, kind == 'r' or kind == 'l')
    if not outcome and effect and not effect_fits(effect, source, KEYS[19]) then
      outcome = 'queue_full'
    end
  end
  if not outcome then
    outcome = 'accepted'
    local deadline = now + life
    if queue then
      push(queue, kind, body, deadline)
      if kind == 'R' or kind == 'L' then
        open(queue, uid, int(deadline))
      end
    elseif body ~= '' then
      answer(asked_by .. ' ' .. uid, body, int(deadline))
    end
    effects[#effects + 1] = effect or nil
    sign(digest)
    if epoch ~= '' then
      note_seen(n)
    end
  end
  if position ~= '' and (outcome == 'accepted' or outcome == 'repeat') then
    dealt_with[#dealt_with + 1] = position
  end
  result[#result + 1] = outcome
end

-- A full Redis refuses the first write or none, so that must not be one that it
-- allows: what comes first needs memory, whatever there is to write.
for _, effect in ipairs(effects) do
  if effect.patterns then
    subscribe(effect, source, KEYS[19])
  else
    publish(effect, effect.stream and KEYS[20 + ARGV[12] + effect.stream], KEYS[18], KEYS[20], source, own)
  end
end
for _, queue in pairs(queues) do
  in_calls('LPUSH', queue.key, queue.left)
  in_calls('RPUSH', queue.key, queue.right)
  if queue.emptied and #queue.left + #queue.right > 0 then
    note_taken(KEYS[4], queue.cmd, queue.served)
  end
  if queue.ends then
    redis.call('ZADD', KEYS[3], int(queue.ends), queue.cmd)
    if queue.ttl ~= -1 then
      redis.call('PEXPIREAT', queue.key, int(queue.ends))
    end
  end
end
if #replies > 0 then
  in_calls('HSET', KEYS[7], replies)
  in_calls('ZADD', KEYS[8], reply_deadlines)
  -- 50 ms: a published relay writes its backlog after our 200.
  local not_before = int(epoch == '' and now_us + 50000 or now_us)
  local on_lane = {}
  for i = 1, #replies, 2 do
    on_lane[i], on_lane[i + 1] = not_before, replies[i]
  end
  in_calls('ZADD', KEYS[6], on_lane)
  redis.call('ZADD', KEYS[5], 'NX', now_text, source)
end
if #signatures > 0 then
  in_calls('HSET', KEYS[9], signatures)
  redis.call('EXPIRE', KEYS[9], ARGV[8])
end
local lines = {}
for uid in pairs(changed) do
  lines[#lines + 1] = uid
  lines[#lines + 1] = records[uid]
end
in_calls('HSET', KEYS[1], lines)
in_calls('ZREM', KEYS[2], forgotten)
in_calls('ZADD', KEYS[2], deadlines)
for name, by in pairs(opened) do
  tally(KEYS[17], name, by)
end
if #noted > 0 then
  store_window()
end
deal_with(KEYS[16], dealt_with)
table.insert(result, 1, now_text)
return result
