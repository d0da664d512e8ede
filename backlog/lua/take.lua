-- Takes what waits in a queue into a claim, oldest first, behind what the claim
-- already holds, up to a number of messages and of bytes. While there are
-- suspects it takes at most one of them, and nothing with it.
--
-- LTRIM and LPOP free memory before RPUSH takes it: Redis lets such a script go on
-- when it is full, though it refuses a BLMOVE.
--
-- KEYS 1 sessions, 2 queue, 3 claim, 4 backlog, 5 suspects, then the session's
--      claims on the other queues
-- ARGV 1 session, 2 most messages, 3 most bytes, 4 bound of the backlog, or 0
--      for a queue that the backlog does not hold back, 5 '1' when the relay is
--      young
-- Returns {'1' when the message is poison or '', how many requests the backlog has
-- room for or '', message, …} with the claim's messages, DEALT_WITH for those that
-- are; the error FENCED, FULL when the backlog is at its bound and the claim is
-- empty, or APART when the next message is a suspect that may not be handed out now.

if fenced(KEYS[1], ARGV[1]) then
  return redis.error_reply('FENCED the session has ended')
end
local claimed = redis.call('LRANGE', KEYS[3], 0, -1)
local looking = knows_suspects(KEYS[5])

-- What is taken is only counted against the message that ends the relay, so a
-- session has one suspect in hand, over all its claims.
local function other_in_hand()
  for i = 6, #KEYS do
    if redis.call('HEXISTS', KEYS[5], KEYS[i]) == 1 then
      return true
    end
  end
  return false
end
-- A relay that ends again and again as soon as it has started does so for
-- reasons of its own, and would have the message at the head of a queue buried
-- for it. So one that is buried the next time is not handed out at the start.
local function may_hand_out(times)
  return not other_in_hand() and not (ARGV[5] == '1' and times == POISON - 1)
end
local function hand_out(message, times)
  redis.call('HSET', KEYS[5], KEYS[3], redis.sha1hex(message))
  return times >= POISON and '1' or ''
end
local bound = tonumber(ARGV[4])
local free = bound > 0 and bound - redis.call('HLEN', KEYS[4])
local function answer(poison)
  table.insert(claimed, 1, poison)
  table.insert(claimed, 2, free and int(math.max(0, free)) or '')
  return claimed
end
local function apart()
  return redis.error_reply('APART the next message is a suspect that must wait')
end

if looking then
  make_room(KEYS[1])
  acquit(KEYS[5], KEYS[3], claimed)
  local first = true
  for i, message in ipairs(claimed) do
    local times = message ~= DEALT_WITH and times_suspected(KEYS[5], message)
    if times then
      -- A BLMOVE brought it, or it was no suspect when it was taken.
      local alone = first and may_hand_out(times)
      local stay = alone and i or i - 1
      redis.call('LLEN', KEYS[2]) -- an error here, if it is no list, loses nothing
      give_back(KEYS[3], KEYS[2], stay)
      for j = #claimed, stay + 1, -1 do
        claimed[j] = nil
      end
      if #claimed == 0 then
        return apart()
      end
      return answer(alone and hand_out(message, times) or '')
    end
    first = first and message == DEALT_WITH
  end
end

local room = tonumber(ARGV[2]) - #claimed
local bytes = tonumber(ARGV[3])
for _, message in ipairs(claimed) do
  bytes = bytes - #message
end
if free and free <= 0 then
  if #claimed == 0 then
    return redis.error_reply('FULL the backlog is at its bound')
  end
  return answer('')
end
while looking and room > 0 and bytes > 0 do
  local next = redis.call('LINDEX', KEYS[2], 0)
  local times = next and times_suspected(KEYS[5], next)
  if times and #claimed > 0 then
    break
  elseif times and not may_hand_out(times) then
    return apart()
  end
  local message = redis.call('LPOP', KEYS[2])
  if not message then
    break
  end
  redis.call('RPUSH', KEYS[3], message)
  claimed[#claimed + 1] = message
  if times then
    return answer(hand_out(message, times))
  end
  room = room - 1
  bytes = bytes - #message
end

-- Without suspects many are taken at once: as many as there is room for if they
-- are like the largest so far, and at first a few, for they may be large.
local largest, some = 1, 4
for _, message in ipairs(claimed) do
  largest = math.max(largest, #message)
end
while not looking and room > 0 and bytes > 0 do
  some = math.max(1, math.min(some, room, math.floor(bytes / largest)))
  local messages = redis.call('LRANGE', KEYS[2], '0', int(some - 1))
  local n = 0
  while messages[n + 1] and bytes > 0 do
    n = n + 1
    claimed[#claimed + 1] = messages[n]
    bytes = bytes - #messages[n]
    largest = math.max(largest, #messages[n])
  end
  if n > 0 then
    redis.call('LTRIM', KEYS[2], int(n), '-1')
    in_calls('RPUSH', KEYS[3], messages, 1, n)
  end
  if n < some then
    break
  end
  room = room - n
  some = 4 * some
end
return answer('')
