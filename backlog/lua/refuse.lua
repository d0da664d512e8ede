-- Ends one message of a claim that cannot be handled: the app gets an error if
-- it named a list, and otherwise the dead letters keep the message.
--
-- KEYS 1 sessions, 2 claim, 3 dead letters, 4 return queue (absent when the
--      message names none that may be written)
-- ARGV 1 session, 2 position in the claim from 0, 3 bound of the dead letters,
--      4 queue, 5 reason, 6 detail, 7 error reply, 8 seconds that the return
--      queue is kept, 9 '1' to keep a dead letter in any case
-- Returns 'told', 'buried' or 'told and buried', or 'gone' when the message has
-- been dealt with before; the error FENCED.

if fenced(KEYS[1], ARGV[1]) then
  return redis.error_reply('FENCED the session has ended')
end
local message = redis.call('LINDEX', KEYS[2], ARGV[2])
if not message or message == DEALT_WITH then
  return 'gone'
end
local told = KEYS[4] and is_list(KEYS[4])
make_room(KEYS[2])
redis.call('LSET', KEYS[2], ARGV[2], DEALT_WITH)
if told then
  redis.call('RPUSH', KEYS[4], ARGV[7])
  redis.call('EXPIRE', KEYS[4], ARGV[8])
  if ARGV[9] ~= '1' then
    return 'told'
  end
end
bury(KEYS[3], ARGV[3], ARGV[4], ARGV[5], ARGV[6], message)
return told and 'told and buried' or 'buried'
