-- Puts services' replies to other twins on their lanes, closes the open records
-- that they answer, and marks them as dealt with in the claim.
--
-- KEYS 1 sessions, 2 claim, 3 open, 4 open deadlines, 5 replies,
--      6 replies' deadlines, 7 lanes, 8 open counts, then the lane replies for each message
-- ARGV 1 session, 2 ms that a reply without a record may wait, 3 µs from the
--      acceptance of a request without an epoch to its reply, then for each
--      message: position in the claim from 0, uid, twin that asked, epoch or
--      '-', the record's line in open or '' when there is none, body
-- Returns 'sent' or 'late' for each message; the error FENCED.

if fenced(KEYS[1], ARGV[1]) then
  return redis.error_reply('FENCED the session has ended')
end
make_room(KEYS[2])
local result = {}
local lane = 8
for a = 4, #ARGV, 6 do
  lane = lane + 1
  local uid, twin, epoch, record = ARGV[a + 1], ARGV[a + 2], ARGV[a + 3], ARGV[a + 4]
  local id = twin .. ' ' .. epoch .. ' ' .. uid
  local deadline = int(now + ARGV[2])
  local not_before = now_us
  local open = true
  if record ~= '' then
    local left
    left, open = without(redis.call('HGET', KEYS[3], uid), record)
    if open then
      tally(KEYS[8], open, -1)
      redis.call('ZREM', KEYS[4], id)
      if left ~= '' then
        redis.call('HSET', KEYS[3], uid, left)
      else
        redis.call('HDEL', KEYS[3], uid)
      end
      local ends, accepted = string.match(record, '^%d+ [%x-]+ (%d+) (%d+) ')
      deadline = ends
      if epoch == '-' then
        not_before = math.max(now_us, math.min(now_us + ARGV[3], accepted * 1000 + ARGV[3]))
      end
    end
  end
  if record == '' and redis.call('HEXISTS', KEYS[5], id) == 1 then
    open = false -- the one that came first is on its way
  end
  redis.call('LSET', KEYS[2], ARGV[a], DEALT_WITH)
  if open then
    redis.call('HSET', KEYS[5], id, ARGV[a + 5])
    redis.call('ZADD', KEYS[6], deadline, id)
    -- The position keeps replies of one step in their order.
    redis.call('ZADD', KEYS[lane], int(not_before + ARGV[a]), id)
    redis.call('ZADD', KEYS[7], 'NX', int(not_before / 1000), twin)
  end
  result[#result + 1] = open and 'sent' or 'late'
end
return result
