-- Counts a failed attempt of a lane and lets the lane rest. Only the session
-- that serves the lane may say so.
--
-- KEYS 1 lanes, 2 lane, 3 lane tries, 4 backlog
-- ARGV 1 session, 2 twin, 3 ms of the first rest, 4 ms of the longest rest,
--      5 a factor in 1/1000 that keeps lanes from resting in step, 6 '1' when
--      the attempt counts as a try (a busy peer's does not), 7 reason, 8 detail,
--      9 most exhausted, 10 most bytes of them
-- Returns {uid, entry, …} of requests whose tries are used up.

if redis.call('HGET', KEYS[2], 'owner') ~= ARGV[1] then
  return {}
end
local failing = tonumber(redis.call('HGET', KEYS[2], 'failing') or 0)
local rest = math.min(ARGV[4], ARGV[3] * 2 ^ math.min(failing, 32)) * ARGV[5] / 1000
redis.call('HDEL', KEYS[2], 'owner')
if failing > 0 or ARGV[6] == '1' then
  rest = rest + FAILING
end
redis.call('ZADD', KEYS[1], int(now + rest), ARGV[2])
redis.call('HSET', KEYS[2], 'reason', ARGV[7], 'detail', ARGV[8])
if ARGV[6] ~= '1' then
  return {}
end
redis.call('HINCRBY', KEYS[2], 'failing', 1)
local failures = redis.call('HINCRBY', KEYS[2], 'failures', 1)
return ending(KEYS[3], failures, KEYS[4], ARGV[9], ARGV[10])
