-- Finds what is still known of requests that have ended.
--
-- KEYS 1 ended
-- ARGV 1 uid
-- Returns {ms when it ended, 'asked' or 'served', its line, …}, the latest first.

local result = {}
local before = '+'
repeat
  local page = redis.call('XREVRANGE', KEYS[1], before, '-', 'COUNT', 100)
  for _, step in ipairs(page) do
    local fields = step[2]
    for i = 1, #fields, 2 do
      local lines = '\n' .. fields[i + 1] .. '\n'
      local from = string.find(lines, '\n' .. ARGV[1] .. ' ', 1, true)
      if from then
        result[#result + 1] = string.match(step[1], '^%d+')
        result[#result + 1] = fields[i]
        result[#result + 1] = string.match(lines, '^[^\n]*', from + 1)
      end
    end
    before = '(' .. step[1]
  end
until #page < 100
return result
