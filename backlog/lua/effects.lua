-- What accepting a request for a command of the relay itself does besides: an event is
-- published, kept and retained, a subscription begins or ends. An effect is JSON, made by
-- the relay.

-- What is kept is bounded: events in a stream, streams, retained events, subscriptions.
local EVENTS, STREAMS, RETAINED, SUBSCRIPTIONS = 10000, 1000, 1000, 10000

-- unless_wrong_type calls a command and returns its answer, or nil for a key that somebody
-- else wrote over: that costs no message.
local function unless_wrong_type(...)
  local answer = redis.pcall(...)
  if type(answer) ~= 'table' or not answer.err then
    return answer
  elseif not string.find(answer.err, 'WRONGTYPE', 1, true) then
    error(answer.err)
  end
end

-- has_room tells whether a key that holds n members can take one more, or has it.
local function has_room(n, most, look, key, member)
  return n and (n < most or unless_wrong_type(look, key, member))
end

-- effect_fits tells whether there is room for what an effect keeps.
local function effect_fits(effect, source, retained, subscribers, streams)
  if effect.patterns then
    local live = unless_wrong_type('ZCOUNT', subscribers, '(' .. int(now), '+inf')
    return not effect.lease or has_room(live, SUBSCRIPTIONS, 'ZSCORE', subscribers, source .. ' ' .. effect.patterns[1])
  end
  return (not effect.stream or has_room(unless_wrong_type('ZCARD', streams), STREAMS, 'ZSCORE', streams, effect.exchange)) and
    (not effect.retained or has_room(unless_wrong_type('HLEN', retained), RETAINED, 'HGET', retained, effect.retained))
end

local function subscribe(effect, source, subscribers)
  for _, pattern in ipairs(effect.patterns) do
    if effect.lease then
      unless_wrong_type('ZADD', subscribers, int(now + effect.lease), source .. ' ' .. pattern)
    else
      unless_wrong_type('ZREM', subscribers, source .. ' ' .. pattern)
    end
  end
  unless_wrong_type('ZREMRANGEBYSCORE', subscribers, '-inf', int(now)) -- last: a full Redis allows it
end

-- publish keeps an event before anybody hears of it.
local function publish(effect, stream, retained, streams)
  if effect.stream then
    unless_wrong_type('XADD', stream, 'MAXLEN', '~', EVENTS, '*', 'event', effect.event)
    unless_wrong_type('ZADD', streams, int(now), effect.exchange)
  end
  if effect.retained then
    unless_wrong_type('HSET', retained, effect.retained, effect.event)
  end
  for _, channel in ipairs(effect.channels or {}) do
    redis.call('PUBLISH', channel, effect.event)
  end
end
