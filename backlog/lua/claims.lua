-- What the scripts share that fill claims and give them back.
--
-- A suspect is a message that was in the claim of a relay when that ended
-- without leaving: it may be what ended it. The hash `suspects` counts how
-- often, under the sha1 of the message, and notes under the key of a claim
-- which suspect was handed out with it. A suspect is handed out alone, so that
-- from then on nothing else is counted with it.

local POISON = 3                -- recoveries, after which nobody looks at a message again
local SUSPECTED_MS = 3600000    -- how long suspects are remembered after the last recovery
local SUSPECTS_MOST = 10000     -- a relay that crashes for reasons of its own must not fill Redis

-- knows_suspects tells whether there is anything to look up. What is no hash
-- was not written by a relay.
local function knows_suspects(suspects)
  return redis.call('TYPE', suspects)['ok'] == 'hash'
end

-- times_suspected returns how often a relay ended with a message, or nil.
local function times_suspected(suspects, message)
  local times = redis.call('HGET', suspects, redis.sha1hex(message))
  return times and tonumber(times)
end

-- suspect counts `by` more for each message of which no copy is in `counted`.
-- Nothing here may raise an error: messages are on their way back.
local function suspect(suspects, messages, by, counted)
  if #messages > 0 and not knows_suspects(suspects) then
    redis.call('DEL', suspects)
  end
  for _, message in ipairs(messages) do
    local sha = redis.sha1hex(message)
    if not counted[sha] and (redis.call('HLEN', suspects) < SUSPECTS_MOST or redis.call('HEXISTS', suspects, sha) == 1) then
      redis.pcall('HINCRBY', suspects, sha, by)
      redis.call('PEXPIRE', suspects, SUSPECTED_MS)
    end
    counted[sha] = true
  end
end

-- acquit forgets the suspect that was handed out with a claim when it is not
-- among the messages that are left: somebody dealt with it and lived. Poison
-- stays, lest an app that repeats it ends a relay three times for each.
local function acquit(suspects, claim, left)
  local sha = redis.call('HGET', suspects, claim)
  if not sha then
    return
  end
  for _, message in ipairs(left) do
    if message ~= DEALT_WITH and redis.sha1hex(message) == sha then
      return
    end
  end
  redis.call('HDEL', suspects, claim)
  if tonumber(redis.call('HGET', suspects, sha) or 0) < POISON then
    redis.call('HDEL', suspects, sha)
  end
end

-- give_back moves all but the first `stay` entries of a claim to the head of its
-- queue, in their order, and returns the messages. RPOP frees memory before
-- LPUSH takes it, so this works when Redis is full.
local function give_back(claim, queue, stay)
  local given = {}
  for _ = stay + 1, redis.call('LLEN', claim) do
    local message = redis.call('RPOP', claim)
    if message ~= DEALT_WITH then
      redis.call('LPUSH', queue, message)
      given[#given + 1] = message
    end
  end
  return given
end

-- end_claims gives all claims of a session back, given as pairs of claim and
-- queue in KEYS from `first` on. It returns the number of messages, and whether
-- a claim must be kept because somebody overwrote its queue.
local function end_claims(suspects, first, crashed)
  local given, kept, counted = 0, false, {}
  for i = first, #KEYS, 2 do
    if is_list(KEYS[i + 1]) then
      local messages = give_back(KEYS[i], KEYS[i + 1], 0)
      given = given + #messages
      if knows_suspects(suspects) then
        acquit(suspects, KEYS[i], messages)
        redis.call('HDEL', suspects, KEYS[i])
      end
      if crashed then
        suspect(suspects, messages, 1, counted)
      end
    elseif redis.call('EXISTS', KEYS[i]) == 1 then
      kept = true -- until somebody takes away what is no queue
    end
  end
  return given, kept
end
