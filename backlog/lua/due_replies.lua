-- Names replies whose deadline has passed on their lane.
--
-- KEYS 1 replies' deadlines
-- ARGV 1 most
-- Returns their ids.

return redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', int(now), 'LIMIT', 0, ARGV[1])
