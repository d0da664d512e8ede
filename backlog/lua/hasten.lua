-- Ends a lane's rest, because its twin has just shown that it is there: the lane
-- is due now, and not behind all other failing ones.
--
-- KEYS 1 lanes, 2 lane
-- ARGV 1 twin
-- Returns 1 when the lane was waiting, else 0.

local score = redis.call('ZSCORE', KEYS[1], ARGV[1])
local lane = redis.call('HMGET', KEYS[2], 'owner', 'failing')
local due, apart = lane_due(score)
if not score or lane[1] or not lane[2] or (due <= now and not apart) then
  return 0
end
make_room(KEYS[1])
redis.call('ZADD', KEYS[1], int(now), ARGV[1])
return 1
