-- Moves what is no entry from the backlog to the dead letters, and off its lane.
-- It has failed if it was accepted: what has no deadline never was.
--
-- KEYS 1 backlog, 2 deadlines, 3 dead letters, 4 lane requests, 5 lane tries,
--      6 stats
-- ARGV 1 uid, 2 bound of the dead letters, 3 why, 4 the entry as read
-- Returns 1, or 0 when the entry has changed.

if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[4] then
  return 0
end
redis.call('HDEL', KEYS[1], ARGV[1]) -- first, because it frees
local accepted = redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('ZREM', KEYS[4], ARGV[1])
redis.call('ZREM', KEYS[5], ARGV[1])
if accepted == 1 then
  redis.call('HINCRBY', KEYS[6], 'failed', 1)
end
bury(KEYS[3], ARGV[2], 'backlog', 'malformed', ARGV[3], ARGV[4])
return 1
