-- Tells an app of the error that ended its request, when its message has been
-- buried before anybody looked at what it says.
--
-- KEYS 1 sessions, 2 return queue
-- ARGV 1 error reply, 2 seconds that the return queue is kept
-- Returns 1, or 0 when the return queue is no list.

if not is_list(KEYS[2]) then
  return 0
end
make_room(KEYS[1])
redis.call('RPUSH', KEYS[2], ARGV[1])
redis.call('EXPIRE', KEYS[2], ARGV[2])
return 1
