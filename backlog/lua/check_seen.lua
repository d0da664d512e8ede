-- Tells whether what a source has sent can be told from repeats: each epoch has
-- one window, in which its highest number is marked.
--
-- KEYS 1 seen, 2 to 5 its windows
-- ARGV 1 window W
-- Returns pairs of the epoch's slot and 'unreadable', 'in_both' or 'no_window'.
-- A window goes when it has not been used for long; the one used last is there
-- as long as `seen` is.

local result = {}
if redis.call('TYPE', KEYS[1])['ok'] ~= 'hash' then
  return result
end
local function note(slot, state)
  result[#result + 1] = slot
  result[#result + 1] = state
end
local slots, latest, known = {}, -1, {}
for slot = 0, 3 do
  local kept = redis.call('HGET', KEYS[1], slot)
  if kept then
    local epoch, high, used = string.match(kept, '^(%x+) (%d+) (%d+)$')
    if not epoch then
      note(slot, 'unreadable')
    else
      if known[epoch] then
        note(slot, 'in_both')
      end
      known[epoch] = true
      slots[slot] = tonumber(high)
      latest = math.max(latest, tonumber(used))
      if tonumber(used) == latest then
        slots.latest = slot
      end
    end
  end
end
for slot = 0, 3 do
  local kind = redis.call('TYPE', KEYS[slot + 2])['ok']
  if slots[slot] and (kind == 'string' or (kind == 'none' and slots.latest == slot)) and
    redis.call('GETBIT', KEYS[slot + 2], slots[slot] % ARGV[1]) == 0 then
    note(slot, 'no_window')
  end
end
return result
