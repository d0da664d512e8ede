-- Reads the next messages of a lane for the relay that serves it: replies, then
-- requests in the order of their numbers. Nothing is removed: that
-- is for settle, when the outcome is known. The lane is the caller's until its
-- session ends or it releases the lane. What was put off comes back here, a
-- batch at a time, until some of it is put off again.
--
-- KEYS 1 sessions, 2 lanes, 3 lane, 4 lane requests, 5 lane replies, 6 backlog,
--      7 replies, 8 lane tries, 9 lane later, 10 lanes later, 11 lanes paused
-- ARGV 1 session, 2 twin, 3 most messages, 4 most bytes, 5 window of numbers,
--      6 ms that the lane is not offered to others, 7 ms that it rests at most,
--      8 µs that a reply waits at most
-- Returns {'batch', probe, kind, id, body, …} with kind 'request' or 'reply'
-- and probe '1' when the lane has failed since its last success; {'wait', ms}
-- when nothing is to be sent for that long; {'idle'} when the lane is empty or paused;
-- {'owned'} when another relay serves it; the error FENCED.

if fenced(KEYS[1], ARGV[1]) then
  return redis.error_reply('FENCED the session has ended')
end
make_room(KEYS[2]) -- a full Redis empties by sending
local lane = redis.call('HMGET', KEYS[3], 'owner', 'failing', 'reason')
local failing = tonumber(lane[2] or 0)
local function set_due(at)
  redis.call('ZADD', KEYS[2], int(at + (failing > 0 and FAILING or 0)), ARGV[2])
end
if lane[1] ~= ARGV[1] then
  local due = lane_due(redis.call('ZSCORE', KEYS[2], ARGV[2]))
  -- What a session that has ended held back for itself is no rest to wait for,
  -- nor is one from before Redis's clock was set back.
  local left = lane[1] and fenced(KEYS[1], lane[1])
  if due > now and due <= now + ARGV[7] and not left then
    return {'wait', int(due - now)}
  end
  if lane[1] and not left then
    set_due(now + ARGV[6])
    return {'owned'}
  end
end
if redis.call('ZSCORE', KEYS[11], ARGV[2]) then
  redis.call('HDEL', KEYS[3], 'owner')
  redis.call('ZREM', KEYS[2], ARGV[2]) -- it is due again when it may go on, or something comes for it
  return {'idle'}
end

local most = tonumber(ARGV[3])
local bytes = tonumber(ARGV[4])
local probe = failing > 0
if probe then
  most = 1
end
local batch = {'batch', probe and '1' or ''}

-- add_to_batch puts what is named on the batch, as far as there is room, and
-- returns the names of which nothing is kept any more.
local function add_to_batch(kind, names, bodies)
  local gone = {}
  each_value(bodies, names, function(i, body)
    if bytes <= 0 then
      return false
    elseif body then
      batch[#batch + 1] = kind
      batch[#batch + 1] = names[i]
      batch[#batch + 1] = body
      most = most - 1
      bytes = bytes - #body
    else
      gone[#gone + 1] = names[i]
    end
  end)
  return gone
end

-- Replies first: they end what others wait for, and free the memory of a peer
-- that is full and takes no requests. Those that would wait for longer than any
-- reply does are from before Redis's clock was set back, and the oldest.
local function add_replies(least, latest)
  local ids = redis.call('ZRANGEBYSCORE', KEYS[5], least, latest, 'LIMIT', '0', int(most))
  in_calls('ZREM', KEYS[5], add_to_batch('reply', ids, KEYS[7]))
end
add_replies('(' .. int(now_us + ARGV[8]), '+inf')
add_replies('-inf', int(now_us))
local rests_until = tonumber(redis.call('ZSCORE', KEYS[10], ARGV[2]) or nil)
if rests_until and (rests_until <= now or rests_until > now + ARGV[7]) then
  redis.call('ZREM', KEYS[10], ARGV[2])
  rests_until = nil
end
if not rests_until and most > 0 then
  local later = redis.call('ZRANGE', KEYS[9], '0', int(most - 1), 'WITHSCORES')
  for i = 1, #later, 2 do
    redis.call('ZREM', KEYS[9], later[i])
    redis.call('ZADD', KEYS[4], int(later[i + 1]), later[i])
  end
end

local function lowest(index)
  return tonumber(redis.call('ZRANGE', index, '0', '0', 'WITHSCORES')[2] or nil)
end

-- last_in_window returns the highest number that the peer can tell from repeats
-- when the oldest request, put off or not, has still to come.
local function last_in_window()
  return math.min(lowest(KEYS[4]) or math.huge, lowest(KEYS[9]) or math.huge) + ARGV[5] - 1
end
if most > 0 and bytes > 0 then
  -- A probe is the oldest request. When the peer is there and has failed at it
  -- three times the next one has a turn, lest one that it cannot take holds back
  -- all others.
  local first = 0
  if probe and lane[3] == 'peer_failed' then
    first = math.floor(failing / 3) % math.max(1, redis.call('ZCARD', KEYS[4]))
  end
  local last = last_in_window()
  if last < math.huge then
    local uids = redis.call('ZRANGEBYSCORE', KEYS[4], '-inf', int(last), 'LIMIT', int(first), int(most))
    local gone = add_to_batch('request', uids, KEYS[6])
    in_calls('ZREM', KEYS[4], gone)
    in_calls('ZREM', KEYS[8], gone)
  end
end

if #batch > 2 then
  if lane[1] ~= ARGV[1] then
    redis.call('HSET', KEYS[3], 'owner', ARGV[1])
  end
  set_due(now + ARGV[6])
  return batch
end
redis.call('HDEL', KEYS[3], 'owner')
local next_request, next_reply = lowest(KEYS[4]), lowest(KEYS[5])
local put_off = redis.call('ZCARD', KEYS[9]) > 0
local due = next_reply and math.max(now, math.ceil(next_reply / 1000))
if (put_off and not rests_until) or (next_request and next_request <= last_in_window()) then
  due = now -- what was read had no entry any more
end
if due then
  set_due(due)
  return {'wait', int(due - now)}
end
-- Whoever brings more finds no lane that rests: what is put off holds nothing back.
redis.call('ZREM', KEYS[2], ARGV[2])
if put_off then
  return {'wait', int(rests_until - now)}
end
redis.call('ZREM', KEYS[10], ARGV[2])
-- A twin that only asked leaves nothing: strangers who are not there for the answer
-- must not fill Redis. One that was asked has an epoch, and is remembered.
if redis.call('HEXISTS', KEYS[3], 'epoch') == 0 then
  redis.call('DEL', KEYS[3])
end
return {'idle'}
