-- Reads the next entries of the backlog and names those that do not agree with
-- their uid or their deadline.
--
-- KEYS 1 backlog, 2 deadlines
-- ARGV 1 cursor, 2 about how many
-- Returns {next cursor or '0', how many were read, then for each finding: uid,
-- 'unreadable', 'no_deadline', 'wrong_deadline' or 'wrong_lane', and what was
-- found}. What the archived daemon left has no note, and no deadline before
-- adopt: that is no finding. An earlier deadline is none either: Redis's clock may
-- have been set back.

if redis.call('TYPE', KEYS[1])['ok'] ~= 'hash' then
  return {'0', '0'}
end
local dated = ({zset = true, none = true})[redis.call('TYPE', KEYS[2])['ok']] -- check names another type
local function look(uid, raw)
  local score = dated and redis.call('ZSCORE', KEYS[2], uid)
  local own, dst, note = string.match(raw, '^{"ver":1,"uid":"([^"]*)","src":%d+,"dst":%[(%d+)%],"msgbusd":{([^}]*)}')
  local deadline = note and string.match(note, '"deadline":(%d+)')
  if not deadline then
    if score or string.find(raw, '"msgbusd":{', 1, true) or not string.find(raw, '^%s*{') then
      return 'unreadable', 'the entry does not begin as the relay writes it'
    end
  elseif own ~= uid then
    return 'unreadable', 'it is the entry of ' .. own
  elseif string.match(uid, '^(%d+)%.%d+$') and string.match(uid, '^%d+') ~= dst then
    return 'wrong_lane', 'the entry is for twin ' .. dst
  elseif not score and dated then
    return 'no_deadline', 'the request will never end'
  elseif score and tonumber(score) > tonumber(deadline) then
    return 'wrong_deadline', 'the entry ends at ' .. deadline .. ' ms, its deadline says ' .. int(score)
  end
end
local page = redis.call('HSCAN', KEYS[1], ARGV[1], 'COUNT', ARGV[2])
local result = {page[1], int(#page[2] / 2)}
for i = 1, #page[2], 2 do
  local state, detail = look(page[2][i], page[2][i + 1])
  if state then
    result[#result + 1] = page[2][i]
    result[#result + 1] = state
    result[#result + 1] = detail
  end
end
return result
