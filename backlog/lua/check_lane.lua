-- Tells whether a relay will look at a lane. What holds anything is in `lanes`,
-- or, where all waits for what was put off, in `lanes later`; one that rests for
-- too long is brought back by whoever asks which are due. One that an operator has
-- paused may be in neither.
--
-- KEYS 1 lanes, 2 lane requests, 3 lane replies, 4 lane later, 5 lanes later,
--      6 lanes paused
-- ARGV 1 twin
-- Returns {messages on the lane, '' or 'unserved'}.

local function size(key)
  return redis.call('TYPE', key)['ok'] == 'zset' and redis.call('ZCARD', key) or 0
end
local function lacks(key)
  local kind = redis.call('TYPE', key)['ok']
  return kind == 'none' or (kind == 'zset' and not redis.call('ZSCORE', key, ARGV[1]))
end
local replies, later = size(KEYS[3]), size(KEYS[4])
local held = size(KEYS[2]) + replies + later
if held > 0 and lacks(KEYS[1]) and lacks(KEYS[6]) and (replies > 0 or later == 0 or lacks(KEYS[5])) then
  return {held, 'unserved'}
end
return {held, ''}
