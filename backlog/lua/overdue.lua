-- Names what should have ended long ago, though a relay lives that ends such.
-- Nobody ends anything while expiry is held.
--
-- KEYS 1 sessions, 2 deadlines, 3 hold
-- ARGV 1 ms after its deadline in which a relay ends it, 2 most
-- Returns {how many there are, id, ms since its deadline, …}.

for i = 1, 2 do
  if redis.call('TYPE', KEYS[i])['ok'] ~= 'zset' then
    return {0}
  end
end
if redis.call('EXISTS', KEYS[3]) == 1 or redis.call('ZCOUNT', KEYS[1], '(' .. int(now), '+inf') == 0 then
  return {0}
end
local limit = int(now - ARGV[1])
local result = {redis.call('ZCOUNT', KEYS[2], '-inf', limit)}
local found = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', limit, 'WITHSCORES', 'LIMIT', 0, ARGV[2])
for i = 1, #found, 2 do
  result[#result + 1] = found[i]
  result[#result + 1] = int(now - found[i + 1])
end
return result
