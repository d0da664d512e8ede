-- Tells whether somebody will give back what a service has taken, or is at work on it.
--
-- KEYS 1 sessions, 2 consumers, 3 hold, 4 the service's lease, 5 its list
-- ARGV 1 the service as it stands in KEYS 2, 2 ms after its end in which a relay takes
--      over
-- Returns {how many it has, '', 'not_announced' or 'overdue'}.

for i = 1, 2 do
  local kind = redis.call('TYPE', KEYS[i])['ok']
  if kind ~= 'zset' and kind ~= 'none' then
    return {0, ''} -- check names it
  end
end
if redis.call('TYPE', KEYS[5])['ok'] ~= 'list' then
  return {0, ''}
end
local has = redis.call('LLEN', KEYS[5])
local ended = redis.call('ZSCORE', KEYS[2], ARGV[1])
if not ended then
  return {has, 'not_announced'}
end
ended = tonumber(ended)
if redis.call('EXISTS', KEYS[3], KEYS[4]) == 0 and ended > 0 and now > ended + ARGV[2] and
  redis.call('ZCOUNT', KEYS[1], '(' .. int(now), '+inf') > 0 then
  return {has, 'overdue'}
end
return {has, ''}
