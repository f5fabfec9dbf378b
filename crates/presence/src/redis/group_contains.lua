-- Whether any of some is a member of a group.
-- KEYS[1] - members
-- KEYS[2] - ends
-- ARGV[1..] - who
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for i = 1, #ARGV do
  if redis.call('ZSCORE', KEYS[1], ARGV[i]) then
    local ends = redis.call('ZSCORE', KEYS[2], ARGV[i])
    if not ends or tonumber(ends) > now then
      return 1
    end
  end
end
return 0
