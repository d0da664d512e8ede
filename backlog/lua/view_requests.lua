-- Reads requests of the backlog for somebody who looks: where each is on its way,
-- and its entry without its data, which may be large.
--
-- KEYS 1 backlog, 2 deadlines, 3 lanes paused, then for each request its lane, lane
--      requests, lane later and lane tries
-- ARGV 1 most bytes of an entry without its data, then for each request its uid and
--      its twin
-- Returns for each request that there is: uid, bytes of its entry, the entry without
-- its data or '' when it is still too large, 'waiting', 'put_off' or 'sent', how many
-- tries are left or '', and the lane's reason and detail: why it waits, or is put off.

local most = tonumber(ARGV[1])
local result = {}
for a = 2, #ARGV, 2 do
  local uid = ARGV[a]
  local entry = redis.call('HGET', KEYS[1], uid)
  if entry then
    local size = #entry
    -- Quotes within a string are escaped, so this is no part of one.
    local from, to = string.find(entry, '"dat":"[A-Za-z0-9+/=_-]*"')
    if from then
      entry = string.sub(entry, 1, from - 1) .. '"dat":""' .. string.sub(entry, to + 1)
    end
    local first = 4 + (a - 2) * 2
    local lane = redis.call('HMGET', KEYS[first], 'failing', 'failures', 'reason', 'detail', 'later_reason', 'later_detail')
    local state, reason, detail = 'sent', '', ''
    if redis.call('ZSCORE', KEYS[first + 2], uid) then
      state, reason, detail = 'put_off', lane[5] or '', lane[6] or ''
    elseif redis.call('ZSCORE', KEYS[first + 1], uid) then
      state = 'waiting'
      if tonumber(lane[1] or 0) > 0 then
        reason, detail = lane[3] or '', lane[4] or ''
      end
    end
    if state ~= 'sent' and redis.call('ZSCORE', KEYS[3], ARGV[a + 1]) then
      reason, detail = 'paused', ''
    end
    local ends = redis.call('ZSCORE', KEYS[first + 3], uid)
    local left = ends and int(ends - (lane[2] or 0)) or ''
    for _, value in ipairs({uid, int(size), #entry <= most and entry or '', state, left, reason, detail}) do
      result[#result + 1] = value
    end
  end
end
return result
