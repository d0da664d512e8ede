-- Tells whether somebody will serve a lane. What holds anything is in `lanes`,
-- due no later than the longest rest.
--
-- KEYS 1 lanes, 2 lane requests, 3 lane replies
-- ARGV 1 twin, 2 the longest rest in ms
-- Returns {messages on the lane, '', 'unserved' or 'stalled', ms until it is due}.

local function size(key)
  return redis.call('TYPE', key)['ok'] == 'zset' and redis.call('ZCARD', key) or 0
end
local kind = redis.call('TYPE', KEYS[1])['ok']
local held = size(KEYS[2]) + size(KEYS[3])
if held == 0 or (kind ~= 'zset' and kind ~= 'none') then
  return {held, '', 0}
end
local due = kind == 'zset' and redis.call('ZSCORE', KEYS[1], ARGV[1])
if not due then
  return {held, 'unserved', 0}
end
local rest = lane_due(due) - now
if size(KEYS[2]) == 0 then
  -- A reply may be what it waits for.
  local first = redis.call('ZRANGE', KEYS[3], 0, 0, 'WITHSCORES')
  rest = math.max(rest, tonumber(first[2]) / 1000 - now)
end
return {held, rest > tonumber(ARGV[2]) and 'stalled' or '', math.floor(math.min(rest, 2 ^ 52))}
