-- Tells whether a relay will look at a lane. What holds anything is in `lanes`;
-- one that rests for too long is brought back by whoever asks which are due.
--
-- KEYS 1 lanes, 2 lane requests, 3 lane replies
-- ARGV 1 twin
-- Returns {messages on the lane, '' or 'unserved'}.

local function size(key)
  return redis.call('TYPE', key)['ok'] == 'zset' and redis.call('ZCARD', key) or 0
end
local kind = redis.call('TYPE', KEYS[1])['ok']
local held = size(KEYS[2]) + size(KEYS[3])
if held > 0 and (kind == 'none' or (kind == 'zset' and not redis.call('ZSCORE', KEYS[1], ARGV[1]))) then
  return {held, 'unserved'}
end
return {held, ''}
