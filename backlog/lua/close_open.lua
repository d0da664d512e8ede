-- Forgets open records whose deadline has passed: the source has ended the
-- request with an error of its own.
--
-- KEYS 1 open, 2 open deadlines
-- ARGV 1 most
-- Returns how many were forgotten.

local closed = 0
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', int(now), 'LIMIT', 0, ARGV[1])) do
  local asked_by, uid = string.match(id, '^(%d+ [%x-]+) (.+)$')
  local left = without(redis.call('HGET', KEYS[1], uid), asked_by .. ' ')
  redis.call('ZREM', KEYS[2], id)
  if left ~= '' then
    redis.call('HSET', KEYS[1], uid, left)
  else
    redis.call('HDEL', KEYS[1], uid)
  end
  closed = closed + 1
end
return closed
