-- Tells who serves commands: how many services have announced themselves, and whether
-- another was seen to take from the queue and is not known to have stopped. Of an empty
-- queue nobody can tell whether somebody waits for it.
--
-- KEYS 1 consumers, 2 served commands, then the queue of each command
-- ARGV 1 most consumers that are looked at, then the commands, each once
-- Returns for each command how many have announced themselves, then 1 or 0. A key of
-- another type tells nothing.

local services = {}
for i = 2, #ARGV do
  services[ARGV[i]] = 0
end
for _, consumer in ipairs(redis.pcall('ZRANGEBYSCORE', KEYS[1], '0', '0', 'LIMIT', '0', ARGV[1])) do
  local cmd = string.match(consumer, '^[%w_-]+ (.+)$')
  if cmd and services[cmd] then
    services[cmd] = services[cmd] + 1
  end
end

local function seen(cmd, queue)
  local score = served_at(KEYS[2], cmd)
  if not score or announced(score) then
    return 0
  end
  return (taken_lately(score) or list_length(queue) == 0) and 1 or 0
end

local result = {}
for i = 2, #ARGV do
  result[#result + 1] = services[ARGV[i]]
  result[#result + 1] = seen(ARGV[i], KEYS[i + 1])
end
return result
