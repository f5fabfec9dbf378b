-- Strikes users that were taken, unless they were noted again since.
-- KEYS[1] - lingering
-- ARGV[1] - the time that they were given
-- ARGV[2..] - the users
local struck = 0
for i = 2, #ARGV do
  if tonumber(redis.call('ZSCORE', KEYS[1], ARGV[i])) == tonumber(ARGV[1]) then
    struck = struck + redis.call('ZREM', KEYS[1], ARGV[i])
  end
end
return struck
