-- Reads dead letters for somebody who looks, the latest first, with no more of each
-- message than fits.
--
-- KEYS 1 dead letters
-- ARGV 1 id that they come before, or '+', 2 most letters, 3 most bytes of a message
-- Returns {id, queue, reason, detail, to, message, its bytes, …}.

local result = {}
for _, letter in ipairs(redis.call('XREVRANGE', KEYS[1], ARGV[1] == '+' and '+' or '(' .. ARGV[1], '-', 'COUNT', ARGV[2])) do
  local fields, values = letter[2], {}
  for i = 1, #fields, 2 do
    values[fields[i]] = fields[i + 1]
  end
  local message = values.message or ''
  for _, value in ipairs({letter[1], values.queue or '', values.reason or '', values.detail or '', values.to or '',
    string.sub(message, 1, tonumber(ARGV[3])), int(#message)}) do
    result[#result + 1] = value
  end
end
return result
