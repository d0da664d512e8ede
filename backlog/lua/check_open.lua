-- Reads the next open records, or the next of their deadlines, and names those
-- that lack the other.
--
-- KEYS 1 open, 2 open deadlines, 3 open counts
-- ARGV 1 cursor, 2 about how many, 3 'records' or 'deadlines'
-- Returns {next cursor or '0', how many were read, then for each finding: uid, or
-- id in the deadlines, 'unreadable', 'no_deadline', 'wrong_deadline',
-- 'not_counted' or 'no_record', and what was found}. An earlier deadline is none: see check_entries.

for i, kind in ipairs({'hash', 'zset'}) do
  local got = redis.call('TYPE', KEYS[i])['ok']
  if got ~= 'none' and got ~= kind then
    return {'0', '0'} -- check names it
  end
end
local counted = ({hash = true, none = true})[redis.call('TYPE', KEYS[3])['ok']] -- check names another type
local function look_record(uid, line)
  local asked_by, twin, deadline, cmd = string.match(line, '^((%d+) [%x-]+) (%d+) %d+ (.*)$')
  if not deadline then
    return 'unreadable', 'a record of it is not as the relay writes it'
  end
  local score = redis.call('ZSCORE', KEYS[2], asked_by .. ' ' .. uid)
  if not score then
    return 'no_deadline', 'the record will never be closed'
  elseif tonumber(score) > tonumber(deadline) then
    return 'wrong_deadline', 'the record ends at ' .. deadline .. ' ms, its deadline says ' .. int(score)
  elseif counted and redis.call('HEXISTS', KEYS[3], twin .. ' ' .. cmd) == 0 then
    return 'not_counted', 'the record is not counted as its twin\'s'
  end
end
local function look_deadline(id)
  local asked_by, uid = string.match(id, '^(%d+ [%x-]+) (.+)$')
  if not uid then
    return 'unreadable', 'it is not twin, epoch and uid'
  end
  local _, found = without(redis.call('HGET', KEYS[1], uid), asked_by .. ' ')
  if not found then
    return 'no_record', 'a deadline stands without what it ends'
  end
end

local records = ARGV[3] == 'records'
local page = redis.call(records and 'HSCAN' or 'ZSCAN', KEYS[records and 1 or 2], ARGV[1], 'COUNT', ARGV[2])
local read = 0
local result = {page[1], ''}
local function note(id, state, detail)
  if state then
    result[#result + 1] = id
    result[#result + 1] = state
    result[#result + 1] = detail
  end
end
for i = 1, #page[2], 2 do
  if records then
    for line in string.gmatch(page[2][i + 1], '[^\n]+') do
      read = read + 1
      note(page[2][i], look_record(page[2][i], line))
    end
  else
    note(page[2][i], look_deadline(page[2][i]))
  end
end
result[2] = int(read)
return result
