-- Fences the sessions whose lease has ended and names all that have claims to
-- give back.
--
-- KEYS 1 sessions
-- Returns the names of ended sessions.

make_room(KEYS[1])
for _, session in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], 1, int(now))) do
  redis.call('ZADD', KEYS[1], int(-now), session)
end
return redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', 0)
