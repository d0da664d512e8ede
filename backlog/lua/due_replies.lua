-- Names replies whose deadline has passed on their lane.
--
-- KEYS 1 hold, 2 replies' deadlines
-- ARGV 1 to 3 see held, 4 longest life in ms, 5 most
-- Returns their ids; the errors STEPPED and HELD.

local wait = held()
if wait then
  return wait
end
bring_back(KEYS[2], now + ARGV[4], now + ARGV[4])
return redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', int(now), 'LIMIT', 0, ARGV[5])
