-- Names requests whose deadline has passed.
--
-- KEYS 1 hold, 2 deadlines, 3 backlog
-- ARGV 1 to 3 see held, 4 longest life in ms, 5 most, 6 most bytes
-- Returns {uid, entry, …}; the errors STEPPED and HELD. A deadline without an
-- entry is forgotten here.

local wait = held()
if wait then
  return wait
end
bring_back(KEYS[2], now + ARGV[4], now + ARGV[4])
return ending(KEYS[2], int(now), KEYS[3], ARGV[5], ARGV[6])
