-- Ends a group after a while, or takes that back.
-- KEYS[1] - members
-- KEYS[2] - ends
-- ARGV[1] - after how many ms, or '' for no end
-- Returns 1 if there is such a group, else 0.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if redis.call('ZCARD', KEYS[1]) - redis.call('ZCOUNT', KEYS[2], '-inf', now) == 0 then
  return 0
end
for i = 1, 2 do
  if ARGV[1] == '' then
    redis.call('PERSIST', KEYS[i])
  else
    redis.call('PEXPIRE', KEYS[i], ARGV[1])
  end
end
return 1
