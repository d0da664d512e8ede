-- Renews the lease of a session and of all that it claims.
--
-- KEYS 1 sessions
-- ARGV 1 session, 2 lease in ms
-- Returns {now in µs, 'renewed' or 'fenced'}.

if fenced(KEYS[1], ARGV[1]) then
  return {int(now_us), 'fenced'}
end
make_room(KEYS[1])
redis.call('ZADD', KEYS[1], int(now + ARGV[2]), ARGV[1])
return {int(now_us), 'renewed'}
