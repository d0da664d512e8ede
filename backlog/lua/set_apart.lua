-- Makes suspects of the messages of a claim, without counting anything: from now
-- on they are handed out one by one.
--
-- KEYS 1 sessions, 2 claim, 3 suspects
-- ARGV 1 session
-- Returns 1; the error FENCED.

if fenced(KEYS[1], ARGV[1]) then
  return redis.error_reply('FENCED the session has ended')
end
make_room(KEYS[2])
local messages = {}
for _, message in ipairs(redis.call('LRANGE', KEYS[2], 0, -1)) do
  if message ~= DEALT_WITH then
    messages[#messages + 1] = message
  end
end
suspect(KEYS[3], messages, 0, {})
return 1
