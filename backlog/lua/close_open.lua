-- Forgets open records whose deadline has passed: the source has ended the
-- request with an error of its own.
--
-- KEYS 1 hold, 2 open deadlines, 3 open, 4 open counts, 5 ended
-- ARGV 1 to 3 see held, 4 longest life in ms, 5 most
-- Returns how many were forgotten; the errors STEPPED and HELD.

local wait = held()
if wait then
  return wait
end
bring_back(KEYS[2], now + ARGV[4], now + ARGV[4])
local closed = 0
local told = {} -- for who asks later what became of a request
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', int(now), 'LIMIT', 0, ARGV[5])) do
  local asked_by, uid = string.match(id, '^(%d+ [%x-]+) (.+)$')
  local left, record = without(redis.call('HGET', KEYS[3], uid), asked_by .. ' ')
  redis.call('ZREM', KEYS[2], id) -- first, because it frees
  tally(KEYS[4], counted_as(record), -1)
  if left ~= '' then
    redis.call('HSET', KEYS[3], uid, left)
  else
    redis.call('HDEL', KEYS[3], uid)
  end
  local twin, accepted = string.match(record or '', '^(%d+) %S+ %d+ (%d+) ')
  if twin then
    told[#told + 1] = uid .. ' failed ' .. accepted .. ' ' .. twin
  end
  closed = closed + 1
end
note_ended(KEYS[5], 'served', told)
return closed
