-- Names the lanes that are due, and those among them whose last attempt failed
-- apart from the others; each in the order in which they became due.
--
-- KEYS 1 lanes, 2 lanes later
-- ARGV 1 most lanes of each kind, 2 ms that a lane rests at most
-- Returns {ms until the next one is due or -1, {twin, …}, {failing twin, …}}.

bring_back(KEYS[1], now + ARGV[2], now, '(' .. int(FAILING))
bring_back(KEYS[1], FAILING + now + ARGV[2], FAILING + now)
bring_back(KEYS[2], now + ARGV[2], now)
for _, twin in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', int(now), 'LIMIT', 0, ARGV[1])) do
  redis.call('ZREM', KEYS[2], twin) -- first, because it frees
  redis.call('ZADD', KEYS[1], 'NX', int(now), twin)
end
local function due_from(base, lowest)
  return redis.call('ZRANGEBYSCORE', KEYS[1], lowest, int(base + now), 'LIMIT', 0, ARGV[1])
end
local wait = -1
local function coming_from(index, base, highest)
  local coming = redis.call('ZRANGEBYSCORE', index, '(' .. int(base + now), highest, 'WITHSCORES', 'LIMIT', 0, 1)
  if #coming > 0 then
    local left = tonumber(coming[2]) - base - now
    if wait < 0 or left < wait then
      wait = left
    end
  end
end
coming_from(KEYS[1], 0, '(' .. int(FAILING))
coming_from(KEYS[1], FAILING, '+inf')
coming_from(KEYS[2], 0, '+inf')
return {wait, due_from(0, '-inf'), due_from(FAILING, int(FAILING))}
