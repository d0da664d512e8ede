-- Names requests of a lane whose tries are used up, for the rest after fail
-- returned its most.
--
-- KEYS 1 lane, 2 lane tries, 3 backlog
-- ARGV 1 most, 2 most bytes
-- Returns {uid, entry, …}.

local failures = redis.call('HGET', KEYS[1], 'failures') or 0
local result = {}
local bytes = 0
for _, uid in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', failures, 'LIMIT', 0, ARGV[1])) do
  local entry = redis.call('HGET', KEYS[3], uid)
  if entry then
    result[#result + 1] = uid
    result[#result + 1] = entry
    bytes = bytes + #entry
    if bytes > tonumber(ARGV[2]) then
      break
    end
  else
    redis.call('ZREM', KEYS[2], uid)
  end
end
return result
