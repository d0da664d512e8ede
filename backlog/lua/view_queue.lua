-- Reads the first messages of a queue for somebody who looks, with no more of each
-- than fits.
--
-- KEYS 1 queue
-- ARGV 1 most messages, 2 most bytes of each
-- Returns the messages.

local result = {}
for i = 0, ARGV[1] - 1 do -- one by one: they may be large
  local message = redis.call('LINDEX', KEYS[1], int(i))
  if not message then
    break
  end
  result[#result + 1] = string.sub(message, 1, tonumber(ARGV[2]))
end
return result
