-- The membership of a session whose node died ends soon, unless its node comes back.
-- KEYS[1] - members
-- KEYS[2] - ends
-- ARGV[1] - the member
-- ARGV[2] - after how many ms
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then
  return 0
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local ends = redis.call('ZSCORE', KEYS[2], ARGV[1])
if not ends or tonumber(ends) > now + ARGV[2] then
  redis.call('ZADD', KEYS[2], now + ARGV[2], ARGV[1])
end
return 1
