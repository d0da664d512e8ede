-- Reads lanes for somebody who looks.
--
-- KEYS 1 sessions, 2 lanes, 3 lanes later, 4 lanes paused, then for each lane: lane,
--      lane requests, lane later, lane replies
-- ARGV the twins of the lanes
-- Returns {now in ms, then for each lane: 'paused', 'failing', 'put_off', 'sending' or
-- 'waiting', when that began or ends in ms or '', requests, of which put off, replies,
-- failures in a row, reason, detail, uid of the oldest request or ''}.

local result = {int(now)}
for i, twin in ipairs(ARGV) do
  local first = 5 + (i - 1) * 4
  local lane = redis.call('HMGET', KEYS[first], 'owner', 'failing', 'reason', 'detail', 'later_reason', 'later_detail')
  local failing = tonumber(lane[2] or 0)
  local waiting, later = redis.call('ZCARD', KEYS[first + 1]), redis.call('ZCARD', KEYS[first + 2])
  local paused = redis.call('ZSCORE', KEYS[4], twin)
  local state, at, reason, detail = 'waiting', '', '', ''
  if paused then
    state, at = 'paused', int(paused)
  elseif failing > 0 then
    state, at, reason, detail = 'failing', int((lane_due(redis.call('ZSCORE', KEYS[2], twin)))), lane[3] or '', lane[4] or ''
  elseif waiting == 0 and later > 0 then
    state, at, reason, detail = 'put_off', int(redis.call('ZSCORE', KEYS[3], twin) or now), lane[5] or '', lane[6] or ''
  elseif lane[1] and not fenced(KEYS[1], lane[1]) then
    state = 'sending'
  end
  local oldest = redis.call('ZRANGE', KEYS[first + 2], 0, 0)[1] or redis.call('ZRANGE', KEYS[first + 1], 0, 0)[1] or ''
  for _, value in ipairs({state, at, int(waiting + later), int(later), int(redis.call('ZCARD', KEYS[first + 3])), int(failing), reason, detail, oldest}) do
    result[#result + 1] = value
  end
end
return result
