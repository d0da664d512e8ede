-- Pushes interim replies to the lists that their requests name, if those wait still. An
-- app that does not read its list gets no more than it has room for.
--
-- KEYS 1 backlog, then the lists
-- ARGV 1 seconds that a list is kept, 2 most messages in a list, then for each reply: uid,
--      the entry's head, which of the lists from 1, body
-- Returns for each reply 'sent', 'late' when its request has ended, 'queue_full', or
-- 'wrong_type' when the key is no list.

local uids = {}
for a = 3, #ARGV, 4 do
  uids[#uids + 1] = ARGV[a]
end
local lists = {}
local function list_of(l)
  if not lists[l] then
    local key = KEYS[1 + l]
    lists[l] = {key = key, length = list_length(key), replies = {}}
  end
  return lists[l]
end

local result = {}
each_value(KEYS[1], uids, function(i, entry)
  local uid, head, l, body = unpack(ARGV, 4 * i - 1, 4 * i + 2)
  if not entry or string.sub(entry, 1, #head) ~= head then
    result[i] = 'late'
    return
  end
  local list = list_of(tonumber(l))
  if not list.length then
    result[i] = 'wrong_type'
  elseif list.length >= tonumber(ARGV[2]) then
    result[i] = 'queue_full'
  else
    list.length = list.length + 1
    list.replies[#list.replies + 1] = body
    result[i] = 'sent'
  end
end)
for _, list in pairs(lists) do
  if #list.replies > 0 then
    in_calls('RPUSH', list.key, list.replies)
    redis.call('EXPIRE', list.key, ARGV[1])
  end
end
return result
