-- Gives the claims of one ended session back to the heads of their queues, in
-- their order. The session is forgotten only when its claims are empty and long
-- enough after its end: Redis still serves a blocked BLMOVE of a relay that is
-- stopped or gone.
--
-- KEYS 1 sessions, then pairs of claim and queue
-- ARGV 1 session, 2 ms after its end before it may be forgotten
-- Returns the number of messages given back, or -1 when the session is live.

local score = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or 0)
if score > 0 then
  return -1
end
local given, kept = 0, false
for i = 2, #KEYS, 2 do
  if is_list(KEYS[i + 1]) then
    -- RPOP frees memory before LPUSH takes it, so this works when Redis is full.
    local message = redis.call('RPOP', KEYS[i])
    while message do
      if message ~= DEALT_WITH then
        redis.call('LPUSH', KEYS[i + 1], message)
        given = given + 1
      end
      message = redis.call('RPOP', KEYS[i])
    end
  elseif redis.call('EXISTS', KEYS[i]) == 1 then
    kept = true -- until somebody takes away what is no queue
  end
end
if given == 0 and not kept and now > -score + ARGV[2] then
  redis.call('ZREM', KEYS[1], ARGV[1])
end
return given
