-- Forgets who has said that he is here and does no longer, each once, whichever relay
-- notices it first.
--
-- KEYS 1 presence, then what each name keeps up while it is here
-- ARGV the names, in the same order
-- Returns the names that are gone.

local gone = {}
for i, name in ipairs(ARGV) do
  if redis.call('EXISTS', KEYS[1 + i]) == 0 and redis.call('ZREM', KEYS[1], name) == 1 then
    gone[#gone + 1] = name
  end
end
return gone
