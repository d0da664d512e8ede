-- Forgets the subscriptions of apps that have gone for a while, and tells of which twins must
-- be asked for events now, and for how long, and which need not be asked any more: each once
-- in a while, whichever relay comes first.
--
-- Leases survive neither a step of Redis's clock nor a Redis that was away for longer, so an
-- app has to stay without one for the grace: until then the score of its subscription is when
-- that was found gone.
--
-- KEYS 1 hold, 2 subscriptions, 3 subscribed, then the lease of each app
-- ARGV 1 to 3 see held, 4 longest life in ms, 5 ms after which a twin is asked again, 6 ms of
--      the grace, 7 number of apps, then for each subscription: which of the apps from 1,
--      "<twin> <pattern>", its member in subscriptions
-- Returns {those that are due, each as "<ms of the longest lease> <twin> <pattern>", those
-- that have ended as "<twin> <pattern>"}; the errors STEPPED and HELD.

local wait = held()
if wait then
  return wait
end
local left = {} -- ms of each app's lease
for c = 1, tonumber(ARGV[7]) do
  local ttl = redis.call('PTTL', KEYS[3 + c])
  left[c] = ttl ~= -2 and (ttl == -1 and tonumber(ARGV[4]) or ttl) or nil
end

-- stays tells whether a subscription stays: its app lives, or may be found to live again.
local function stays(member, lives)
  local gone = tonumber(redis.call('ZSCORE', KEYS[2], member) or nil)
  if not gone then
    return false -- it was taken back since it was looked up
  elseif lives then
    if gone ~= 0 then
      redis.call('ZADD', KEYS[2], '0', member)
    end
    return true
  elseif gone <= 0 or gone > now then
    redis.call('ZADD', KEYS[2], int(now), member)
    return true
  elseif now - gone < tonumber(ARGV[6]) then
    return true
  end
  redis.call('ZREM', KEYS[2], member)
  return false
end

local wanted, due, ended = {}, {}, {}
for a = 8, #ARGV, 3 do
  local lease = left[tonumber(ARGV[a])]
  if stays(ARGV[a + 2], lease) then
    wanted[ARGV[a + 1]] = math.max(wanted[ARGV[a + 1]] or 0, lease or 0)
  end
end
for subscription, lease in pairs(wanted) do
  local asked = redis.call('ZSCORE', KEYS[3], subscription)
  if not asked or now - asked >= tonumber(ARGV[5]) or tonumber(asked) > now then
    due[#due + 1] = int(lease) .. ' ' .. subscription
    redis.call('ZADD', KEYS[3], int(now), subscription)
  end
end

-- Another app may have come since they were looked up.
for _, member in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
  local subscription = string.match(member, '^%S+ (.*)$')
  if subscription then
    wanted[subscription] = wanted[subscription] or 0
  end
end
for _, subscription in ipairs(redis.call('ZRANGE', KEYS[3], 0, -1)) do
  if not wanted[subscription] then
    ended[#ended + 1] = subscription
    redis.call('ZREM', KEYS[3], subscription)
  end
end
return {due, ended}
