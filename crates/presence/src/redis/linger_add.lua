-- Notes users whose last session ended.
-- KEYS[1] - lingering
-- ARGV[1] - after how many ms to look at them
-- ARGV[2] - 'GT' to look later at those that are noted already, 'NX' to leave them
-- ARGV[3..] - the users
local time = redis.call('TIME')
local due = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[1]
for i = 3, #ARGV do
  redis.call('ZADD', KEYS[1], ARGV[2], due, ARGV[i])
end
return #ARGV - 2
