-- Takes users that are due, so that nobody else takes them before a while.
-- KEYS[1] - lingering
-- ARGV[1] - how many at most
-- ARGV[2] - for how many ms they are taken
-- Returns the users' new time, then the users.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local taken = {string.format('%.0f', now + ARGV[2])}
for _, user in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, ARGV[1])) do
  redis.call('ZADD', KEYS[1], taken[1], user)
  taken[#taken + 1] = user
end
return taken
