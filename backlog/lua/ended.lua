-- Fences the sessions whose lease has ended and names all that have claims to
-- give back.
--
-- KEYS 1 sessions
-- ARGV 1 lease in ms, 2 ms that a lease may be longer than this relay's own
-- Returns the names of ended sessions.

make_room(KEYS[1])
-- Redis's clock was set back: a live session has a lease's time to renew, and
-- what ended ends now.
bring_back(KEYS[1], now + ARGV[1] + ARGV[2], now + ARGV[1])
for _, session in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', '(' .. int(-now))) do
  redis.call('ZADD', KEYS[1], int(-now), session)
end
for _, session in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], 1, int(now))) do
  redis.call('ZADD', KEYS[1], int(-now), session)
end
return redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', 0)
