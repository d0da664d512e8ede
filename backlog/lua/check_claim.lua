-- Tells whether somebody will give a claim back, or is at work on it.
--
-- KEYS 1 sessions, 2 claim
-- ARGV 1 session, 2 ms after its end in which another relay takes over
-- Returns {how long it is, '', 'unknown_session' or 'overdue'}.

if redis.call('TYPE', KEYS[2])['ok'] ~= 'list' then
  return {0, ''}
end
local kind = redis.call('TYPE', KEYS[1])['ok']
if kind ~= 'zset' and kind ~= 'none' then
  return {0, ''}
end
local held = redis.call('LLEN', KEYS[2])
local lease = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not lease then
  return {held, 'unknown_session'}
end
lease = tonumber(lease)
if lease <= 0 and now > -lease + ARGV[2] and redis.call('ZCOUNT', KEYS[1], '(' .. int(now), '+inf') > 0 then
  return {held, 'overdue'}
end
return {held, ''}
