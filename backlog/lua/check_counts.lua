-- Tells whether the counts of open records add up: all of them together are as many
-- as there are records, which have a deadline each.
--
-- KEYS 1 open counts, 2 open deadlines
-- ARGV 1 most counts that are read in this step
-- Returns {sum of the counts, records, then the names of the first 100 that are no
-- counts}; {0, 0} when there are more.

for i, kind in ipairs({'hash', 'zset'}) do
  local got = redis.call('TYPE', KEYS[i])['ok']
  if got ~= 'none' and got ~= kind then
    return {0, 0} -- check names it
  end
end
if redis.call('HLEN', KEYS[1]) > tonumber(ARGV[1]) then
  return {0, 0}
end
local sum, result = 0, {}
local counts = redis.call('HGETALL', KEYS[1])
for i = 1, #counts, 2 do
  local n = string.match(counts[i + 1], '^[1-9]%d*$')
  sum = sum + (n or 0)
  if not n and #result < 100 then
    result[#result + 1] = counts[i]
  end
end
return {sum, redis.call('ZCARD', KEYS[2]), unpack(result)}
