-- Moves what nobody can handle from the backlog, or from the replies that wait, to
-- the dead letters, and off its lane. A request has failed by that if it was
-- accepted: what has no deadline never was.
--
-- KEYS 1 backlog or replies, 2 deadlines or replies' deadlines, 3 dead letters,
--      4 stats, then the indexes of its lane
-- ARGV 1 uid or id, 2 bound of the dead letters, 3 where it was, 4 reason,
--      5 detail, 6 the entry or reply as read, 7 '1' for a request
-- Returns 1, or 0 when it has changed.

-- What was on a lane may have been ended by now, with an error to its app.
local current = redis.call('HGET', KEYS[1], ARGV[1])
if current ~= ARGV[6] and (current or ARGV[3] ~= 'lane') then
  return 0
end
make_room(KEYS[1])
redis.call('HDEL', KEYS[1], ARGV[1])
local accepted = redis.call('ZREM', KEYS[2], ARGV[1]) == 1
for i = 5, #KEYS do
  redis.call('ZREM', KEYS[i], ARGV[1])
end
if accepted and ARGV[7] == '1' then
  redis.call('HINCRBY', KEYS[4], 'failed', 1)
end
bury(KEYS[3], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6])
return 1
