-- What accepting a request for a command of the relay itself does besides: an event is
-- published, kept and retained, a subscription begins or ends. An effect is JSON, made by
-- the relay.

-- What is kept is bounded: events in a stream, streams, retained events, subscriptions. Of
-- streams and retained events other twins fill half, of retained ones one of them a quarter,
-- of subscriptions one of them half: what this machine's apps keep has room whatever others do.
local EVENTS, STREAMS, RETAINED, SUBSCRIPTIONS, SUBSCRIPTIONS_OF_ONE = 10000, 1000, 1000, 10000, 5000

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

-- count_of counts the names that begin with a twin and a space.
local function count_of(twin, names)
  local n = 0
  for _, name in ipairs(names or {}) do
    if string.sub(name, 1, #twin + 1) == twin .. ' ' then
      n = n + 1
    end
  end
  return n
end

-- planned is how many subscriptions the effects before this one begin.
local planned = 0

-- effect_fits tells whether there is room for a subscription. An event always fits: of one
-- for which there is none nothing is kept.
local function effect_fits(effect, source, subscribers)
  if not effect.patterns or not effect.lease then
    return true
  end
  local live = unless_wrong_type('ZCOUNT', subscribers, '(' .. int(now), '+inf')
  if not live then
    return false
  end
  local new = 0
  for _, pattern in ipairs(effect.patterns) do
    if not unless_wrong_type('ZSCORE', subscribers, source .. ' ' .. pattern) then
      new = new + 1
    end
  end
  if new > 0 then
    if live + planned + new > SUBSCRIPTIONS then
      return false
    elseif live + planned + new > SUBSCRIPTIONS_OF_ONE then
      local all = unless_wrong_type('ZRANGEBYSCORE', subscribers, '(' .. int(now), '+inf')
      if count_of(source, all) + planned + new > SUBSCRIPTIONS_OF_ONE then
        return false
      end
    end
  end
  planned = planned + new
  return true
end

-- subscribe never makes a lease shorter, but for ending it: the relay of the source asks for
-- all its apps together.
local function subscribe(effect, source, subscribers)
  for _, pattern in ipairs(effect.patterns) do
    if effect.lease then
      unless_wrong_type('ZADD', subscribers, 'GT', int(now + effect.lease), source .. ' ' .. pattern)
    else
      unless_wrong_type('ZREM', subscribers, source .. ' ' .. pattern)
    end
  end
  unless_wrong_type('ZREMRANGEBYSCORE', subscribers, '-inf', int(now)) -- last: a full Redis allows it
end

-- keep puts an event into its stream, if that is there or there is room for it.
local function keep(effect, stream, streams, own)
  local n = unless_wrong_type('ZCARD', streams)
  local known = n and unless_wrong_type('ZSCORE', streams, effect.exchange)
  if n and (known or n < (own and STREAMS or STREAMS / 2)) then
    unless_wrong_type('XADD', stream, 'MAXLEN', '~', EVENTS, '*', 'event', effect.event)
    unless_wrong_type('ZADD', streams, int(now), effect.exchange)
  end
end

-- retain keeps an event as the latest of its topic, if there is room for it. It tells
-- whether the event is news: one that was published before is not when a later one, or
-- itself, is there.
local function retain(effect, retained, source, own)
  local before = unless_wrong_type('HGET', retained, effect.retained)
  if before and effect.latest then
    local readable, kept = pcall(cjson.decode, before)
    if readable and type(kept) == 'table' and (tonumber(kept.at) or 0) >= (effect.at or 0) then
      return false
    end
  end
  if effect.forget then
    unless_wrong_type('HDEL', retained, effect.retained)
    return true
  end
  local n = not before and unless_wrong_type('HLEN', retained) or 0
  local fits = before or n < RETAINED
  if fits and not before and not own then
    fits = n < RETAINED / 2 and count_of(source, unless_wrong_type('HKEYS', retained)) < RETAINED / 4
  end
  if fits then
    unless_wrong_type('HSET', retained, effect.retained, effect.event)
  end
  return true
end

-- publish keeps an event before anybody hears of it.
local function publish(effect, stream, retained, streams, source, own)
  if effect.retained and not retain(effect, retained, source, own) then
    return
  end
  if effect.stream then
    keep(effect, stream, streams, own)
  end
  for _, channel in ipairs(effect.channels or {}) do
    redis.call('PUBLISH', channel, effect.event)
  end
end
