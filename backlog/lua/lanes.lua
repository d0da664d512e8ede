-- Names the lanes that are due.
--
-- KEYS 1 lanes
-- ARGV 1 most lanes, 2 ms that a lane rests at most
-- Returns {ms until the next one is due or -1, twin, …}.

bring_back(KEYS[1], now + ARGV[2], now)
local result = {-1}
for _, twin in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', int(now), 'LIMIT', 0, ARGV[1])) do
  result[#result + 1] = twin
end
local coming = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. int(now), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
if #coming > 0 then
  result[1] = tonumber(coming[2]) - now
end
return result
