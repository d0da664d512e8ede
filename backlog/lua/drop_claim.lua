-- Drops what a relay has seen of a claim, all of which has been dealt with. What
-- a BLMOVE that nobody waits for any more has added since stays for the next
-- take.
--
-- KEYS 1 sessions, 2 claim
-- ARGV 1 session, 2 number of messages that were seen
-- Returns 1; the error FENCED.

if fenced(KEYS[1], ARGV[1]) then
  return redis.error_reply('FENCED the session has ended')
end
redis.call('LTRIM', KEYS[2], ARGV[2], -1)
return 1
