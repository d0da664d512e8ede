-- Queues a retry of the archived daemon like a new request, once, whoever else
-- adopts at the same time.
--
-- KEYS 1 the archived daemon's retries, 2 queue
-- ARGV 1 its field in the retries
-- Returns 1, or 0 when it is gone.

local request = redis.call('HGET', KEYS[1], ARGV[1])
if not request then
  return 0
end
if not is_list(KEYS[2]) then
  return redis.error_reply('WRONGTYPE ' .. KEYS[2] .. ' is not a list')
end
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('RPUSH', KEYS[2], request)
return 1
