-- Names requests whose deadline has passed.
--
-- KEYS 1 deadlines, 2 backlog
-- ARGV 1 most, 2 most bytes
-- Returns {uid, entry, …}. A deadline without an entry is forgotten here.

local result = {}
local bytes = 0
for _, uid in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', int(now), 'LIMIT', 0, ARGV[1])) do
  local entry = redis.call('HGET', KEYS[2], uid)
  if entry then
    result[#result + 1] = uid
    result[#result + 1] = entry
    bytes = bytes + #entry
    if bytes > tonumber(ARGV[2]) then
      break
    end
  else
    redis.call('ZREM', KEYS[1], uid)
  end
end
return result
