-- Names requests whose deadline has passed.
--
-- KEYS 1 deadlines, 2 backlog
-- ARGV 1 most, 2 most bytes
-- Returns {uid, entry, …}. A deadline without an entry is forgotten here.

return ending(KEYS[1], int(now), KEYS[2], ARGV[1], ARGV[2])
