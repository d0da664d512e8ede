-- Moves what is no entry from the backlog to the dead letters.
--
-- KEYS 1 backlog, 2 deadlines, 3 dead letters
-- ARGV 1 uid, 2 bound of the dead letters, 3 why, 4 the entry
-- Returns 1.

redis.call('HDEL', KEYS[1], ARGV[1]) -- first, because it frees
redis.call('ZREM', KEYS[2], ARGV[1])
bury(KEYS[3], ARGV[2], 'backlog', 'malformed', ARGV[3], ARGV[4])
return 1
