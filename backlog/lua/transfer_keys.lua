-- Hands out the key pairs that transfers to this twin are sealed for. A relay
-- that finds no recent one brings the next, so that relays which start at once
-- agree; what is too old goes.
--
-- KEYS 1 transfer keys
-- ARGV 1 id and 2 private key in hex of a new pair, 3 ms that a pair is offered,
--      4 ms that it is kept after that
-- Returns {id of the pair to offer, then id and private key in hex of each pair}.

local offered, kept = tonumber(ARGV[3]), ARGV[3] + ARGV[4]
local newest, newest_made
local gone, result = {}, {''}
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local id = all[i]
  local made, private = string.match(all[i + 1], '^(%d+) (%x+)$')
  made = tonumber(made or 0)
  -- One from the future was made before Redis's clock was set back, and would be
  -- offered until the clock comes there again.
  if made > now or now - made >= kept or #private ~= 64 or #id ~= 16 or string.match(id, '[^0-9a-f]') then
    gone[#gone + 1] = id
  else
    result[#result + 1] = id
    result[#result + 1] = private
    if not newest or made > newest_made then
      newest, newest_made = id, made
    end
  end
end

local due = not newest or now - newest_made >= offered
if due or #gone > 0 then
  make_room(KEYS[1])
  for _, id in ipairs(gone) do
    redis.call('HDEL', KEYS[1], id)
  end
  if due then
    newest, newest_made = ARGV[1], now
    redis.call('HSET', KEYS[1], newest, int(now) .. ' ' .. ARGV[2])
    result[#result + 1] = newest
    result[#result + 1] = ARGV[2]
  end
  -- Where no relay looks any more, they go by themselves.
  redis.call('PEXPIREAT', KEYS[1], int(newest_made + kept))
end
result[1] = newest
return result
