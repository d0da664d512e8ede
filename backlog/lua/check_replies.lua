-- Names replies that are kept and are on no lane: nobody will send them.
--
-- KEYS 1 replies, then for each reply the lane replies of its twin
-- ARGV ids
-- Returns ids.

local result = {}
for i, id in ipairs(ARGV) do
  local kind = redis.call('TYPE', KEYS[i + 1])['ok']
  if (kind == 'none' or kind == 'zset') and redis.call('HEXISTS', KEYS[1], id) == 1 and
    (kind == 'none' or not redis.call('ZSCORE', KEYS[i + 1], id)) then
    result[#result + 1] = id
  end
end
return result
