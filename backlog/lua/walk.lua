-- Reads the next names of a hash or a sorted set, and tells of each, as of the
-- same instant, in which of the other keys it is missing.
--
-- KEYS 1 what is walked, then hashes or sorted sets in which each name must be
-- ARGV 1 cursor, 2 about how many
-- Returns {next cursor or '0', now in ms, then for each name: name, score or '',
-- a digit for each key of KEYS in which it is missing, and '?' when one has
-- another type, so that it cannot be told}. Check names such a key.

local kinds = {}
for i = 1, #KEYS do
  kinds[i] = redis.call('TYPE', KEYS[i])['ok']
end
local command = ({hash = 'HSCAN', zset = 'ZSCAN'})[kinds[1]]
if not command then
  return {'0', int(now)}
end
local function missing(name)
  local result = ''
  for i = 2, #KEYS do
    if kinds[i] == 'none' or
      (kinds[i] == 'hash' and redis.call('HEXISTS', KEYS[i], name) == 0) or
      (kinds[i] == 'zset' and not redis.call('ZSCORE', KEYS[i], name)) then
      result = result .. i
    elseif kinds[i] ~= 'hash' and kinds[i] ~= 'zset' then
      result = result .. '?'
    end
  end
  return result
end
local page = redis.call(command, KEYS[1], ARGV[1], 'COUNT', ARGV[2])
local result = {page[1], int(now)}
for i = 1, #page[2], 2 do
  local name = page[2][i]
  result[#result + 1] = name
  result[#result + 1] = command == 'ZSCAN' and page[2][i + 1] or ''
  result[#result + 1] = missing(name)
end
return result
