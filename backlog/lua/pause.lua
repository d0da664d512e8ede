-- Pauses a lane, or lets it go on: then it is due now, whatever it rested for.
--
-- KEYS 1 lanes paused, 2 lanes, 3 lanes later
-- ARGV 1 twin, 2 '1' to pause, '' to go on
-- Returns 1 when that changed anything, else 0.

if ARGV[2] == '1' then
  return redis.call('ZADD', KEYS[1], 'NX', int(now), ARGV[1])
end
local was = redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[3], ARGV[1])
redis.call('ZADD', KEYS[2], int(now), ARGV[1])
return was
