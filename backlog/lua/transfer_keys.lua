-- Hands out the key pairs that transfers to this twin are sealed for. A relay
-- that finds no recent one brings the next, so that relays which start at once
-- agree; what is too old goes.
--
-- Each pair has a Redis key of its own, so that each goes by itself when its time
-- is over: also where no relay looks, or nothing comes in. A place is that of a
-- time in which one pair is made, and comes round when that pair has gone.
--
-- KEYS 1… the places of transfer keys
-- ARGV 1 id and 2 private key in hex of a new pair, 3 ms that a pair is offered,
--      4 ms that it is kept after that: together less than one offer a place
-- Returns {id of the pair to offer, then id and private key in hex of each pair}.

local offered, kept = tonumber(ARGV[3]), ARGV[3] + ARGV[4]
local newest, newest_made
local result = {''}
for _, place in ipairs(KEYS) do
  local pair = redis.call('GET', place)
  if pair then
    local made, id, private = string.match(pair, '^(%d+) ([0-9a-f]+) (%x+)$')
    made = tonumber(made or 0)
    -- One from the future was made before Redis's clock was set back, and would be
    -- offered until the clock comes there again.
    if made > now or now - made >= kept or #private ~= 64 or #id ~= 16 then
      make_room(place)
      redis.call('DEL', place)
    else
      result[#result + 1] = id
      result[#result + 1] = private
      if not newest or made > newest_made then
        newest, newest_made = id, made
      end
    end
  end
end

if not newest or now - newest_made >= offered then
  newest = ARGV[1]
  local place = KEYS[math.floor(now / offered) % #KEYS + 1]
  make_room(place)
  redis.call('SET', place, int(now) .. ' ' .. newest .. ' ' .. ARGV[2], 'PXAT', int(now + kept))
  result[#result + 1] = newest
  result[#result + 1] = ARGV[2]
end
result[1] = newest
return result
