-- Adds members to a group.
-- KEYS[1] - members
-- KEYS[2] - ends
-- ARGV[1] - their time in ms, or '' for no end
-- ARGV[2..] - the members
-- Returns how many are new.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for _, over in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, 1000)) do
  redis.call('ZREM', KEYS[1], over)
  redis.call('ZREM', KEYS[2], over)
end
-- A group's own end is its keys' end, and both have it.
local rest = redis.call('PTTL', KEYS[1])
local added = 0
for i = 2, #ARGV do
  local ends = redis.call('ZSCORE', KEYS[2], ARGV[i])
  if ends and tonumber(ends) <= now then
    redis.call('ZREM', KEYS[1], ARGV[i])
  end
  added = added + redis.call('ZADD', KEYS[1], 0, ARGV[i])
  if ARGV[1] == '' then
    redis.call('ZREM', KEYS[2], ARGV[i])
  else
    redis.call('ZADD', KEYS[2], now + ARGV[1], ARGV[i])
  end
end
if rest > 0 then
  redis.call('PEXPIRE', KEYS[2], rest)
end
return added
