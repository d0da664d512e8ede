-- Notes that Redis's clock was set: for a while nothing ends by time, whichever
-- relay asks.
--
-- KEYS 1 hold
-- ARGV 1 ms by which the clock was set, 2 ms of the hold
-- Returns now in µs.

redis.call('DEL', KEYS[1]) -- first, because it frees: a full Redis must hold too
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return int(now_us)
