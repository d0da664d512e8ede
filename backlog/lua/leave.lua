-- Ends a session in order and gives back what it still claims. In one step: who
-- recovers an ended session takes its relay for crashed.
--
-- KEYS 1 sessions, 2 instances, 3 suspects, then pairs of claim and queue
-- ARGV 1 instance, 2 session
-- Returns 1.

make_room(KEYS[1])
if not fenced(KEYS[1], ARGV[2]) then
  redis.call('ZADD', KEYS[1], int(-now), ARGV[2])
end
if redis.call('HGET', KEYS[2], ARGV[1]) == ARGV[2] then
  redis.call('HDEL', KEYS[2], ARGV[1])
end
end_claims(KEYS[3], 4, false)
return 1
