-- Registers a session of an instance, and ends the older sessions of the same
-- instance: whoever still runs one of them is fenced from here on.
--
-- KEYS 1 sessions, 2 instances
-- ARGV 1 instance, 2 session, 3 the session that this process had before or '',
--      4 lease in ms
-- Returns {now in µs, 'joined'}, or {now in µs, 'superseded'} when another
-- process has joined under this name since the caller did.

local current = redis.call('HGET', KEYS[2], ARGV[1])
if ARGV[3] ~= '' and current and current ~= ARGV[3] then
  return {int(now_us), 'superseded'}
end
if current then
  local lease = tonumber(redis.call('ZSCORE', KEYS[1], current) or 0)
  if lease > 0 then
    redis.call('ZADD', KEYS[1], int(-math.min(lease, now)), current)
  end
end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
redis.call('ZADD', KEYS[1], int(now + ARGV[4]), ARGV[2])
return {int(now_us), 'joined'}
