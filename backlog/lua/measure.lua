-- Counts what waits, in one step that takes the same time however much that is. A
-- key of another type has no count: -1.
--
-- KEYS 1 local, 2 remote, 3 reply, 4 backlog, 5 replies, 6 open deadlines,
--      7 dead letters, 8 lanes, 9 lanes later, 10 deadlines, 11 open, 12 consumers
-- Returns {local, remote, reply, backlog, replies, open, dead letters, lanes that
-- can go on, lanes that fail, lanes with something put off, then in ms or -1 when
-- these came: the request and the open request that end first, the oldest dead
-- letter; consumers that live}.

local function ask(...)
  local answer = redis.pcall(...)
  if type(answer) == 'table' and answer['err'] then
    return nil
  end
  return answer
end

local function count(...)
  return tonumber(ask(...) or -1)
end

-- first_of returns the member of a sorted set that is due first, or nil.
local function first_of(deadlines)
  return (ask('ZRANGE', deadlines, '0', '0') or {})[1]
end

local function admitted()
  local uid = first_of(KEYS[10])
  local entry = uid and ask('HGET', KEYS[4], uid)
  -- The note stands before anything that an app wrote.
  return entry and string.match(entry, '"admitted":(%d+)')
end

local function accepted()
  local source, epoch, uid = string.match(first_of(KEYS[6]) or '', '^(%d+) ([%x-]+) (.+)$')
  local lines = uid and ask('HGET', KEYS[11], uid) or ''
  for twin, its, at in string.gmatch('\n' .. lines, '\n(%d+) ([%x-]+) %d+ (%d+) ') do
    if twin == source and its == epoch then
      return at
    end
  end
end

local function buried()
  local letter = (ask('XRANGE', KEYS[7], '-', '+', 'COUNT', '1') or {})[1]
  return letter and string.match(letter[1], '^%d+')
end

return {
  count('LLEN', KEYS[1]), count('LLEN', KEYS[2]), count('LLEN', KEYS[3]), count('HLEN', KEYS[4]), count('HLEN', KEYS[5]),
  count('ZCARD', KEYS[6]), count('XLEN', KEYS[7]),
  count('ZCOUNT', KEYS[8], '-inf', '(' .. int(FAILING)), count('ZCOUNT', KEYS[8], int(FAILING), '+inf'), count('ZCARD', KEYS[9]),
  tonumber(admitted() or -1), tonumber(accepted() or -1), tonumber(buried() or -1),
  count('ZCOUNT', KEYS[12], '0', '0'),
}
