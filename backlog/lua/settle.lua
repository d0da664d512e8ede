-- Takes messages whose outcome is known off a lane. A request that the peer has
-- accepted stays in the backlog until its reply or its deadline; a reply that
-- was delivered, refused or has expired is forgotten. A request that the peer
-- takes later is put off: those behind it go first.
--
-- KEYS 1 lane, 2 lane requests, 3 lane tries, 4 lane replies, 5 replies,
--      6 replies' deadlines, 7 lane later, 8 lanes later
-- ARGV 1 '1' when the peer answered, which ends the lane's failing, 2 twin,
--      3 ms before which nothing put off is offered again, 4 reason, 5 detail,
--      6 number of requests, 7 number of replies, then the ids of the requests, of
--      the replies and of what is put off
-- Returns 1.

local requests, replies = 7 + ARGV[6], 7 + ARGV[6] + ARGV[7] -- the last of each in ARGV
in_calls('ZREM', KEYS[2], ARGV, 8, requests)
in_calls('ZREM', KEYS[3], ARGV, 8, requests)
in_calls('ZREM', KEYS[7], ARGV, 8, requests) -- another relay may have put it off since
in_calls('HDEL', KEYS[5], ARGV, requests + 1, replies)
in_calls('ZREM', KEYS[4], ARGV, requests + 1, replies)
in_calls('ZREM', KEYS[6], ARGV, requests + 1, replies)
local put_off = false
for i = replies + 1, #ARGV do
  local n = redis.call('ZSCORE', KEYS[2], ARGV[i])
  if n then -- else it has ended meanwhile
    redis.call('ZREM', KEYS[2], ARGV[i]) -- first, because it frees
    redis.call('ZADD', KEYS[7], int(n), ARGV[i])
    put_off = true
  end
end
if put_off then
  redis.call('HSET', KEYS[1], 'later_reason', ARGV[4], 'later_detail', ARGV[5])
  -- The first to be put off says how long: others, put off after it, must not
  -- keep it from its turn.
  redis.call('ZADD', KEYS[8], 'NX', int(now + ARGV[3]), ARGV[2])
end
if ARGV[1] == '1' then
  redis.call('HDEL', KEYS[1], 'failing', 'reason', 'detail')
end
return 1
