-- Pauses a lane, or lets it go on: then it is due now, whatever it rested for. A retry
-- lets it go on unless it is paused.
--
-- KEYS 1 lanes paused, 2 lanes, 3 lanes later
-- ARGV 1 twin, 2 'pause', 'resume' or 'retry'
-- Returns 1 when it was not paused before a pause, or was before one of the others;
-- else 0.

if ARGV[2] == 'pause' then
  return redis.call('ZADD', KEYS[1], 'NX', int(now), ARGV[1])
end
if ARGV[2] == 'retry' and redis.call('ZSCORE', KEYS[1], ARGV[1]) then
  return 1
end
local was = redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[3], ARGV[1])
redis.call('ZADD', KEYS[2], int(now), ARGV[1])
return was
