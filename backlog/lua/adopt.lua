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
local start = tonumber(ARGV[3]) * 1000
if start > now or now - start > 86400000 then
  start = now
end
local deadline = tonumber(ARGV[5]) * 1000
if ARGV[4] == 'for' then
  deadline = start + deadline
end
deadline = int(math.max(0, math.min(deadline, now + ARGV[6])))
redis.call('HSET', KEYS[1], ARGV[1], '{"ver":1,"uid":"' .. ARGV[1] .. '","src":' .. ARGV[7] ..
  ',"dst":[' .. ARGV[8] .. '],"msgbusd":{"epoch":"","admitted":' .. int(now) ..
  ',"deadline":' .. deadline .. ',"dialect":"classic"},' .. ARGV[9])
redis.call('ZADD', KEYS[2], deadline, ARGV[1])
redis.call('HINCRBY', KEYS[3], 'accepted', 1)
return 1
