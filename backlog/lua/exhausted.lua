-- Names requests of a lane whose tries are used up, for the rest after fail
-- returned its most.
--
-- KEYS 1 lane, 2 lane tries, 3 backlog
-- ARGV 1 most, 2 most bytes
-- Returns {uid, entry, …}.

local failures = redis.call('HGET', KEYS[1], 'failures') or 0
return ending(KEYS[2], failures, KEYS[3], ARGV[1], ARGV[2])
