-- Drops a claim of which every message has been dealt with.
--
-- KEYS 1 sessions, 2 claim
-- ARGV 1 session
-- Returns 1; the error FENCED.

if fenced(KEYS[1], ARGV[1]) then
  return redis.error_reply('FENCED the session has ended')
end
redis.call('DEL', KEYS[2])
return 1
