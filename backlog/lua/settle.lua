-- Takes messages whose outcome is known off a lane. A request that the peer has
-- accepted stays in the backlog until its reply or its deadline; a reply that
-- was delivered, refused or has expired is forgotten.
--
-- KEYS 1 lane, 2 lane requests, 3 lane tries, 4 lane replies, 5 replies,
--      6 replies' deadlines
-- ARGV 1 '1' when the peer answered, which ends the lane's failing,
--      then pairs of kind ('request' or 'reply') and id
-- Returns 1.

for i = 2, #ARGV, 2 do
  if ARGV[i] == 'request' then
    redis.call('ZREM', KEYS[2], ARGV[i + 1])
    redis.call('ZREM', KEYS[3], ARGV[i + 1])
  else
    redis.call('HDEL', KEYS[5], ARGV[i + 1])
    redis.call('ZREM', KEYS[4], ARGV[i + 1])
    redis.call('ZREM', KEYS[6], ARGV[i + 1])
  end
end
if ARGV[1] == '1' then
  redis.call('HDEL', KEYS[1], 'failing', 'reason', 'detail')
end
return 1
