-- Puts a dead letter back to where it came from, for another try: at the end, as if
-- it had just been pushed. That it was a suspect is forgotten, or it would be buried
-- again before anybody looks at it.
--
-- KEYS 1 dead letters, 2 suspects, 3 the list that it goes to
-- ARGV 1 id
-- Returns 1, 0 when there is no such dead letter, or -1 when the key is no list.

local letter = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1])[1]
if not letter then
  return 0
end
if not is_list(KEYS[3]) then
  return -1
end
local fields = letter[2]
for i = 1, #fields, 2 do
  if fields[i] == 'message' then
    if redis.call('TYPE', KEYS[2])['ok'] == 'hash' then
      redis.call('HDEL', KEYS[2], redis.sha1hex(fields[i + 1]))
    end
    redis.call('RPUSH', KEYS[3], fields[i + 1])
  end
end
redis.call('XDEL', KEYS[1], ARGV[1])
return 1
