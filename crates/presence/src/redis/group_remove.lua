-- Removes members from a group.
-- KEYS[1] - members
-- KEYS[2] - ends
-- ARGV[1..] - the members
-- Returns how many were members.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local removed = 0
for i = 1, #ARGV do
  local ends = redis.call('ZSCORE', KEYS[2], ARGV[i])
  local gone = redis.call('ZREM', KEYS[1], ARGV[i])
  redis.call('ZREM', KEYS[2], ARGV[i])
  if not ends or tonumber(ends) > now then
    removed = removed + gone
  end
end
return removed
