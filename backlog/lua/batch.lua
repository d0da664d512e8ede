-- What the scripts share that handle many messages in one step. A command on a
-- whole batch costs Redis little more than one on a single message, of which
-- most is the call itself. So these scripts read what they need to know of all
-- messages, decide on one after another as if each had been written before the
-- next one's turn, and then write for all.

-- AT_ONCE is how many values one call is given: Lua's stack takes some thousands.
-- It is even, so that pairs stay together.
local AT_ONCE = 1000

-- in_calls calls a command on a key with all values of a list, or with those from
-- `first` to `last`; without values it does nothing.
local function in_calls(command, key, values, first, last)
  last = last or #values
  for i = first or 1, last, AT_ONCE do
    redis.call(command, key, unpack(values, i, math.min(i + AT_ONCE - 1, last)))
  end
end

-- look_up returns what a hash has under some names: name → value, or false. The
-- values must be small, for they are all in memory at once.
local function look_up(hash, names)
  local found = {}
  for i = 1, #names, AT_ONCE do
    local last = math.min(i + AT_ONCE - 1, #names)
    local values = redis.call('HMGET', hash, unpack(names, i, last))
    for j = i, last do
      found[names[j]] = values[j - i + 1]
    end
  end
  return found
end

-- each_value calls see(position in names, value or false) with what a hash has
-- under each name, in their order, until that returns false. The values may be
-- large: as many are read at once as are a MiB, if those that come are like the
-- largest so far.
local function each_value(hash, names, see)
  local largest, i, count = 1, 1, 4
  while i <= #names do
    local last = math.min(i + count - 1, #names)
    local values = redis.call('HMGET', hash, unpack(names, i, last))
    for j = i, last do
      local value = values[j - i + 1]
      largest = math.max(largest, value and #value or 0)
      if see(j, value) == false then
        return
      end
    end
    i = last + 1
    count = math.max(1, math.min(AT_ONCE, 4 * count, math.floor(1048576 / largest)))
  end
end

-- add appends values to the list that `lists` has under a name.
local function add(lists, name, ...)
  local list = lists[name]
  if not list then
    list = {}
    lists[name] = list
  end
  for i = 1, select('#', ...) do
    list[#list + 1] = (select(i, ...))
  end
end

-- list_length returns how many messages a list has, or nil if nothing can be
-- pushed to the key, because it is of another type.
local function list_length(key)
  local length = redis.pcall('LLEN', key)
  return type(length) == 'number' and length or nil
end

-- note_ended keeps what became of requests in the latest steps, for who asks later: a
-- line each, of 'asked' for requests of this twin and of 'served' for others'. Those are
-- the latest 1,000 steps, or less if they are so large that it would be more than 16,384
-- requests. A key that somebody else wrote over costs no message.
local function note_ended(ended, kind, lines)
  if #lines > 0 then
    local steps = math.min(1000, math.ceil(16384 / #lines))
    redis.pcall('XADD', ended, 'MAXLEN', '~', int(steps), '*', kind, table.concat(lines, '\n'))
  end
end

-- deal_with marks messages of a claim as dealt with, given their positions from 0.
-- Those at its head, one after another, are exchanged at once.
local function deal_with(claim, positions)
  local run = #positions > 1
  for i, position in ipairs(positions) do
    run = run and tonumber(position) == i - 1
  end
  if not run then
    for _, position in ipairs(positions) do
      redis.call('LSET', claim, position, DEALT_WITH)
    end
    return
  end
  local marks = {}
  for i = 1, #positions do
    marks[i] = DEALT_WITH
  end
  redis.call('LTRIM', claim, int(#positions), '-1')
  in_calls('LPUSH', claim, marks)
end
