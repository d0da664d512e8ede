-- Ends requests: the backlog entry goes and the reply is pushed to the app's
-- queue in one step, or nothing happens. A request that nobody waits for ends when
-- its twin has it, or goes to the dead letters. The caller has read the entry; the
-- entry's head is compared, so that an entry that took its uid meanwhile (Redis
-- was emptied) is left alone.
--
-- KEYS 1 backlog, 2 deadlines, 3 stats, 4 dead letters, 5 sessions, 6 claim,
--      7 ended, then the return queues, then for each lane its requests, tries and later
-- ARGV 1 session or '' when no claim is at stake, 2 seconds that a return queue
--      is kept, 3 bound of the dead letters, 4 number of return queues, then for
--      each message: uid, the entry's head, 'answered' or 'failed', the reason or
--      '', when it was at the service's relay (two times in ms) or '', '1' when a
--      service may have answered to the queue itself, position in the claim from 0
--      or '', which of the return queues, from 1, or 0 for one that nobody waits
--      for, and of the lanes, from 1, detail of the reason for the dead letters, body
--      or '' for no dead letter
-- Returns for each message 'answered', 'failed', of one that nobody waits for
-- 'delivered' or 'buried', 'late' when it has ended before, 'kept' when the service answered itself, or 'wrong_type' when the
-- return queue is no list and the reply went to the dead letters; the error
-- FENCED.

if ARGV[1] ~= '' and fenced(KEYS[5], ARGV[1]) then
  return redis.error_reply('FENCED the session has ended')
end
local uids = {}
for a = 5, #ARGV, 11 do
  uids[#uids + 1] = ARGV[a]
end
local result, dealt_with, unread = {}, {}, {}
local ended, is_ended, on_lane = {}, {}, {}
local told = {} -- for who asks later what became of a request
local counts = {answered = 0, failed = 0}

-- queue_of returns what is known of a return queue, and what is to be pushed to
-- it. It has no length when its key is of another type.
local queues = {}
local function queue_of(r)
  local queue = queues[r]
  if not queue then
    local key = KEYS[7 + r]
    queue = {key = key, length = list_length(key), replies = {}}
    queues[r] = queue
  end
  return queue
end

-- leave_backlog takes a request away.
local function leave_backlog(uid, lane)
  is_ended[uid] = true
  ended[#ended + 1] = uid
  add(on_lane, lane, uid)
end

-- end_unheard ends a request that nobody waits for.
local function end_unheard(outcome, reason, detail, body)
  counts[outcome] = counts[outcome] + 1
  if outcome == 'answered' then
    return 'delivered'
  elseif body == '' then
    return outcome
  end
  unread[#unread + 1] = {'local', reason, detail, body}
  return 'buried'
end

-- end_request ends a request by a reply, and returns what became of that.
local function end_request(queue, outcome, may_be_answered, body)
  if not queue.length then
    counts[outcome] = counts[outcome] + 1
    unread[#unread + 1] = {'reply', 'wrong_type', 'the return queue ' .. queue.key .. ' is not a list', body, queue.key}
    return 'wrong_type'
  elseif may_be_answered and queue.length > 0 then
    counts.answered = counts.answered + 1
    return 'kept'
  end
  counts[outcome] = counts[outcome] + 1
  queue.length = queue.length + 1
  queue.replies[#queue.replies + 1] = body
  return outcome
end

each_value(KEYS[1], uids, function(i, entry)
  local uid, head, outcome, reason, stay, may_be_answered, position, r, lane, detail, body = unpack(ARGV, 11 * i - 6, 11 * i + 4)
  if not entry or is_ended[uid] or string.sub(entry, 1, #head) ~= head then
    outcome = 'late'
  else
    leave_backlog(uid, tonumber(lane))
    if r == '0' then
      outcome = end_unheard(outcome, reason, detail, body)
    else
      outcome = end_request(queue_of(tonumber(r)), outcome, may_be_answered == '1', body)
    end
    told[#told + 1] = uid .. ' ' .. outcome .. ' ' .. (string.match(head, '"admitted":(%d+)') or now) .. ' ' .. reason .. ' ' .. stay
  end
  if position ~= '' then
    dealt_with[#dealt_with + 1] = position
  end
  result[i] = outcome
end)

in_calls('HDEL', KEYS[1], ended) -- first, because it frees
in_calls('ZREM', KEYS[2], ended)
local first_lane = 7 + ARGV[4]
for lane, on_it in pairs(on_lane) do
  for key = first_lane + 3 * lane - 2, first_lane + 3 * lane do
    in_calls('ZREM', KEYS[key], on_it)
  end
end
for _, queue in pairs(queues) do
  in_calls('RPUSH', queue.key, queue.replies)
  if queue.length then
    redis.call('EXPIRE', queue.key, ARGV[2])
  end
end
for _, letter in ipairs(unread) do
  bury(KEYS[4], ARGV[3], unpack(letter))
end
note_ended(KEYS[7], 'asked', told)
if #dealt_with > 0 then
  make_room(KEYS[6])
  deal_with(KEYS[6], dealt_with)
end
for outcome, n in pairs(counts) do
  if n > 0 then
    redis.call('HINCRBY', KEYS[3], outcome, int(n))
  end
end
return result
