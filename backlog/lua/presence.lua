-- Forgets who has said that he is here and does no longer, each once, whichever relay
-- notices it first, and has an event tell of it in the same step: none is forgotten that
-- nobody is told of, and what he says himself when he comes back is behind it.
--
-- Leases survive neither a step of Redis's clock nor a Redis that was away for longer, so a
-- name has to stay without one for the grace: until then its score is when that was found
-- gone.
--
-- KEYS 1 hold, 2 presence, 3 the local queue, then what each name keeps up while it is here
-- ARGV 1 to 3 see held, 4 longest life in ms, 5 ms of the grace, then for each name the name
--      and the request that publishes its end, '' for none
-- Returns how many are gone; the errors STEPPED and HELD.

local wait = held()
if wait then
  return wait
end
local gone, events = 0, {}
for i = 6, #ARGV, 2 do
  local name, event = ARGV[i], ARGV[i + 1]
  local since = tonumber(redis.call('ZSCORE', KEYS[2], name) or nil)
  if not since then
    -- It has said so itself since it was looked up.
  elseif redis.call('EXISTS', KEYS[4 + (i - 6) / 2]) == 1 then
    if since ~= 0 then
      redis.call('ZADD', KEYS[2], '0', name)
    end
  elseif since <= 0 or since > now then
    redis.call('ZADD', KEYS[2], int(now), name)
  elseif now - since >= tonumber(ARGV[5]) then
    redis.call('ZREM', KEYS[2], name) -- first, because it frees
    gone = gone + 1
    events[#events + 1] = event ~= '' and event or nil
  end
end
if #events > 0 and is_list(KEYS[3]) then
  for _, event in ipairs(events) do
    redis.call('RPUSH', KEYS[3], event)
  end
end
return gone
