-- Gives the claims of one ended session back to the heads of their queues, in
-- their order. The session is forgotten only when its claims are empty and long
-- enough after its end: Redis still serves a blocked BLMOVE of a relay that is
-- stopped or gone.
--
-- KEYS 1 sessions, 2 suspects, then pairs of claim and queue
-- ARGV 1 session, 2 ms after its end before it may be forgotten, 3 '1' when its
--      relay may have ended over what it claimed
-- Returns the number of messages given back, or -1 when the session is live.

local score = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or 0)
if score > 0 then
  return -1
end
local given, kept = end_claims(KEYS[2], 3, ARGV[3] == '1')
if given == 0 and not kept and now > -score + ARGV[2] then
  redis.call('ZREM', KEYS[1], ARGV[1])
end
return given
