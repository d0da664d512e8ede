-- Takes what waits in a queue into a claim, oldest first, behind what the claim
-- already holds, up to a number of messages and of bytes.
--
-- LPOP frees memory before RPUSH takes it: Redis lets such a script go on when
-- it is full, though it refuses a BLMOVE.
--
-- KEYS 1 sessions, 2 queue, 3 claim, 4 backlog
-- ARGV 1 session, 2 most messages, 3 most bytes, 4 bound of the backlog, or 0
--      for a queue that the backlog does not hold back
-- Returns the claim's messages, DEALT_WITH for those that are; the error
-- FENCED, or FULL when the backlog is at its bound and the claim is empty.

if fenced(KEYS[1], ARGV[1]) then
  return redis.error_reply('FENCED the session has ended')
end
local claimed = redis.call('LRANGE', KEYS[3], 0, -1)
local room = tonumber(ARGV[2]) - #claimed
local bytes = tonumber(ARGV[3])
for _, message in ipairs(claimed) do
  bytes = bytes - #message
end
local bound = tonumber(ARGV[4])
if bound > 0 and redis.call('HLEN', KEYS[4]) >= bound then
  if #claimed == 0 then
    return redis.error_reply('FULL the backlog is at its bound')
  end
  return claimed
end
while room > 0 and bytes > 0 do
  local message = redis.call('LPOP', KEYS[2])
  if not message then
    break
  end
  redis.call('RPUSH', KEYS[3], message)
  claimed[#claimed + 1] = message
  room = room - 1
  bytes = bytes - #message
end
return claimed
