-- Reads the counts in one step. What was accepted has been answered, has failed
-- or waits, at any instant: accepted = answered + failed + waiting.
--
-- An entry counts as accepted when it gets its deadline, and waits as long as it
-- has one: admit, proxy and adopt give it, answer and discard take it and count.
-- What the archived daemon left in the backlog has none before adopt, and so is
-- on neither side. A deadline that goes in any other way leaves the sum wrong for
-- good: that request was lost.
--
-- KEYS 1 stats, 2 backlog, 3 deadlines
-- Returns {accepted, answered, failed, waiting, entries without a deadline}. A
-- key of another type counts nothing; check names it.

local function count(...)
  local n = redis.pcall(...)
  return tonumber(type(n) ~= 'table' and n or 0) or 0
end
local waiting = count('ZCARD', KEYS[3])
return {
  count('HGET', KEYS[1], 'accepted'), count('HGET', KEYS[1], 'answered'), count('HGET', KEYS[1], 'failed'),
  waiting, math.max(0, count('HLEN', KEYS[2]) - waiting),
}
