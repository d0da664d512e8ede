-- Makes a backlog entry of the archived daemon one of ours: it gets a deadline
-- and a note, and waits for its reply as before.
--
-- KEYS 1 backlog, 2 deadlines, 3 stats
-- ARGV 1 uid, 2 the entry as read, 3 its `now` in s, 4 'for' or 'until',
--      5 its life or its end in s, 6 longest life in ms, 7 own twin id,
--      8 destination, 9 the entry's tail
-- Returns 1, or 0 when the entry has changed.

if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then
  return 0
end
local deadline = deadline_of(ARGV[3], ARGV[4], ARGV[5], ARGV[6])
redis.call('HSET', KEYS[1], ARGV[1], entry_of(ARGV[1], ARGV[7], ARGV[8], note_of('', deadline, 'classic'), ARGV[9]))
if redis.call('ZADD', KEYS[2], deadline, ARGV[1]) == 1 then
  redis.call('HINCRBY', KEYS[3], 'accepted', 1)
end
return 1
