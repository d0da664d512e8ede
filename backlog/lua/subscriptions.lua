-- Forgets the subscriptions of apps that have gone, and tells of which twins must be asked
-- for events now, and which need not be asked any more: each once in a while, whichever
-- relay comes first.
--
-- KEYS 1 subscriptions, 2 subscribed, then the lease of each app
-- ARGV 1 ms after which a twin is asked again, 2 number of apps, then for each
--      subscription: which of the apps from 1, "<twin> <pattern>", its member in subscriptions
-- Returns {those that are due, those that have ended}, each as "<twin> <pattern>".

local lives, wanted, due, ended = {}, {}, {}, {}
for c = 1, tonumber(ARGV[2]) do
  lives[c] = redis.call('EXISTS', KEYS[2 + c]) == 1
end
for a = 3, #ARGV, 3 do
  if lives[tonumber(ARGV[a])] then
    wanted[ARGV[a + 1]] = true
  else
    redis.call('ZREM', KEYS[1], ARGV[a + 2])
  end
end
for subscription in pairs(wanted) do
  local asked = redis.call('ZSCORE', KEYS[2], subscription)
  if not asked or now - asked >= tonumber(ARGV[1]) or tonumber(asked) > now then
    due[#due + 1] = subscription
    redis.call('ZADD', KEYS[2], int(now), subscription)
  end
end
for _, subscription in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
  if not wanted[subscription] then
    ended[#ended + 1] = subscription
    redis.call('ZREM', KEYS[2], subscription)
  end
end
return {due, ended}
