-- Moves commands whose queue a service has emptied from the unread to the
-- served ones. A queue that ended by its own deadline was not served.
--
-- KEYS 1 unread commands, 2 served commands, then a queue for each command
-- ARGV 1 most served commands kept, then the commands
-- Returns how many are served now that were not.

local served = 0
for i = 2, #ARGV do
  local latest = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[i]) or 0)
  if redis.call('EXISTS', KEYS[i + 1]) == 0 and latest > 0 then
    redis.call('ZREM', KEYS[1], ARGV[i])
    if latest > now then
      redis.call('ZADD', KEYS[2], int(now), ARGV[i])
      served = served + 1
    end
  end
end
local excess = redis.call('ZCARD', KEYS[2]) - tonumber(ARGV[1])
if excess > 0 then
  redis.call('ZREMRANGEBYRANK', KEYS[2], 0, excess - 1)
end
return served
