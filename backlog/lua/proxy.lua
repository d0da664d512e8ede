-- Accepts a request from `/zbus-cmd`: the service gets it with a return queue
-- of this relay's making, and a backlog entry sees to its end.
--
-- KEYS 1 backlog, 2 deadlines, 3 unread commands, 4 served commands,
--      5 signatures, 6 result (the mark that lets `/zbus-result` read the
--      queue), 7 the service's queue, 8 stats
-- ARGV 1 return queue, which is the uid too, 2 source twin, 3 own twin,
--      4 digest of the signature, 5 seconds that signatures are kept,
--      6 life in ms, 7 seconds that a result outlives it, 8 cmd,
--      9 'R' or 'L' end of the queue, or '' when the relay itself answers, 10 what the service gets,
--      11 the entry's tail, 12 most unread commands, 13 most messages in a queue,
--      14 most entries in the backlog: strangers may fill half of either, so that
--      they cannot stop this machine's own apps, nor other twins' requests
-- Returns {'accepted' or 'repeat', return queue}, {'queue_full'} or
-- {'wrong_type'}.

local before = redis.call('HGET', KEYS[5], ARGV[4])
if before then
  return {'repeat', before}
end
local cmd = ARGV[8]
if not is_list(KEYS[7]) then
  return {'wrong_type'}
end
local served = redis.call('ZSCORE', KEYS[4], cmd)
local unread = redis.call('ZSCORE', KEYS[3], cmd)
if redis.call('HLEN', KEYS[1]) >= tonumber(ARGV[14]) / 2 or redis.call('LLEN', KEYS[7]) >= tonumber(ARGV[13]) / 2 or
  (not served and not unread and redis.call('ZCARD', KEYS[3]) >= tonumber(ARGV[12])) then
  return {'queue_full'}
end

local deadline = now + ARGV[6]
redis.call('HSET', KEYS[5], ARGV[4], ARGV[1])
redis.call('EXPIRE', KEYS[5], ARGV[5])
redis.call('HSET', KEYS[1], ARGV[1], entry_of(ARGV[1], ARGV[2], ARGV[3], note_of('', int(deadline), 'classic'), ARGV[11]))
redis.call('ZADD', KEYS[2], int(deadline), ARGV[1])
redis.call('SET', KEYS[6], ARGV[2], 'PXAT', int(deadline + 1000 * ARGV[7]))
redis.call('HINCRBY', KEYS[8], 'accepted', 1)
if ARGV[9] == '' then
  return {'accepted', ARGV[1]}
end
local ttl = redis.call('PTTL', KEYS[7])
if redis.call('LLEN', KEYS[7]) == 0 then
  note_taken(KEYS[4], cmd, served)
end
redis.call(ARGV[9] == 'L' and 'LPUSH' or 'RPUSH', KEYS[7], ARGV[10])
if not served then
  local latest = math.max(deadline, tonumber(unread or 0))
  redis.call('ZADD', KEYS[3], int(latest), cmd)
  if ttl ~= -1 then -- somebody else's list keeps what it has
    redis.call('PEXPIREAT', KEYS[7], int(latest))
  end
end
return {'accepted', ARGV[1]}
