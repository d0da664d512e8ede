-- Ends requests: the backlog entry goes and the reply is pushed to the app's
-- queue in one step, or nothing happens. The caller has read the entry; the
-- entry's head is compared, so that an entry that took its uid meanwhile (Redis
-- was emptied) is left alone.
--
-- KEYS 1 backlog, 2 deadlines, 3 stats, 4 dead letters, 5 sessions, 6 claim,
--      then for each message its return queue, lane requests, lane tries, lane
--      later
-- ARGV 1 session or '' when no claim is at stake, 2 seconds that a return queue
--      is kept, 3 bound of the dead letters, then for each message: uid, the
--      entry's head, 'answered' or 'failed', '1' when a service may have
--      answered to the queue itself, position in the claim from 0 or '', body
-- Returns for each message 'answered', 'failed', 'late' when it has ended
-- before, 'kept' when the service answered itself, or 'wrong_type' when the
-- return queue is no list and the reply went to the dead letters; the error
-- FENCED.

if ARGV[1] ~= '' and fenced(KEYS[5], ARGV[1]) then
  return redis.error_reply('FENCED the session has ended')
end
local result = {}
local counts = {answered = 0, failed = 0}
local key = 7
for a = 4, #ARGV, 6 do
  local uid, head, outcome, position, body = ARGV[a], ARGV[a + 1], ARGV[a + 2], ARGV[a + 4], ARGV[a + 5]
  local entry = redis.call('HGET', KEYS[1], uid)
  if not entry or string.sub(entry, 1, #head) ~= head then
    outcome = 'late'
  else
    redis.call('HDEL', KEYS[1], uid) -- first, because it frees
    redis.call('ZREM', KEYS[2], uid)
    redis.call('ZREM', KEYS[key + 1], uid)
    redis.call('ZREM', KEYS[key + 2], uid)
    redis.call('ZREM', KEYS[key + 3], uid)
    local counted = outcome
    local ret = KEYS[key]
    if not is_list(ret) then
      bury(KEYS[4], ARGV[3], 'reply', 'wrong_type', 'the return queue ' .. ret .. ' is not a list', body)
      outcome = 'wrong_type'
    elseif ARGV[a + 3] == '1' and redis.call('LLEN', ret) > 0 then
      redis.call('EXPIRE', ret, ARGV[2])
      outcome, counted = 'kept', 'answered'
    else
      redis.call('RPUSH', ret, body)
      redis.call('EXPIRE', ret, ARGV[2])
    end
    counts[counted] = counts[counted] + 1
  end
  if position ~= '' then
    make_room(KEYS[6])
    redis.call('LSET', KEYS[6], position, DEALT_WITH)
  end
  result[#result + 1] = outcome
  key = key + 4
end
for outcome, n in pairs(counts) do
  if n > 0 then
    redis.call('HINCRBY', KEYS[3], outcome, n)
  end
end
return result
