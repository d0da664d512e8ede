-- Ends a session in order: its lease ends now, so that recover may give back at
-- once what it still claims.
--
-- KEYS 1 sessions, 2 instances
-- ARGV 1 instance, 2 session
-- Returns 1.

make_room(KEYS[1])
if not fenced(KEYS[1], ARGV[2]) then
  redis.call('ZADD', KEYS[1], int(-now), ARGV[2])
end
if redis.call('HGET', KEYS[2], ARGV[1]) == ARGV[2] then
  redis.call('HDEL', KEYS[2], ARGV[1])
end
return 1
