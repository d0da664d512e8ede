-- Names the lanes that are due, and those among them whose last attempt failed
-- apart from the others; each in the order in which they became due.
--
-- KEYS 1 lanes
-- ARGV 1 most lanes of each kind, 2 ms that a lane rests at most
-- Returns {ms until the next one is due or -1, {twin, …}, {failing twin, …}}.

bring_back(KEYS[1], now + ARGV[2], now, '(' .. int(FAILING))
bring_back(KEYS[1], FAILING + now + ARGV[2], FAILING + now)
local function due_from(base, lowest)
  return redis.call('ZRANGEBYSCORE', KEYS[1], lowest, int(base + now), 'LIMIT', 0, ARGV[1])
end
local wait = -1
local function coming_from(base, highest)
  local coming = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. int(base + now), highest, 'WITHSCORES', 'LIMIT', 0, 1)
  if #coming > 0 then
    local left = tonumber(coming[2]) - base - now
    if wait < 0 or left < wait then
      wait = left
    end
  end
end
coming_from(0, '(' .. int(FAILING))
coming_from(FAILING, '+inf')
return {wait, due_from(0, '-inf'), due_from(FAILING, int(FAILING))}
