-- Registers a session of an instance, and ends the older sessions of the same
-- instance: whoever still runs one of them is fenced from here on.
--
-- KEYS 1 sessions, 2 instances, 3 epoch
-- ARGV 1 instance, 2 session, 3 the session that this process had before or '',
--      4 lease in ms, then the sessions that this process has put an end to
-- Returns {now in µs, 'joined', epoch or '', the session that this has put an end to or ''}, or {now in µs, 'superseded'} when
-- another process has joined under this name since the caller did, and lives: a
-- Redis that was set back names one of long ago, and one that has failed over may
-- name one that the caller has ended since. A caller whose answer was lost
-- asks again with the same session.

local current = redis.call('HGET', KEYS[2], ARGV[1])
local known = false
for i = 2, #ARGV do
  known = known or (i ~= 4 and ARGV[i] == current)
end
if ARGV[3] ~= '' and current and not known
  and tonumber(redis.call('ZSCORE', KEYS[1], current) or 0) > now then
  return {int(now_us), 'superseded'}
end
make_room(KEYS[1])
local function finish(session)
  local lease = tonumber(redis.call('ZSCORE', KEYS[1], session) or now)
  if lease > 0 then
    redis.call('ZADD', KEYS[1], int(-math.min(lease, now)), session)
  end
end
if current and current ~= ARGV[2] then
  finish(current)
end
if ARGV[3] ~= '' then
  -- Redis may have forgotten it (it was emptied) and still have served its last
  -- BLMOVE: that claim is to be found.
  finish(ARGV[3])
end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
redis.call('ZADD', KEYS[1], int(now + ARGV[4]), ARGV[2])
local ended = current and current ~= ARGV[2] and current or ''
return {int(now_us), 'joined', redis.call('HGET', KEYS[3], 'epoch') or '', ended}
