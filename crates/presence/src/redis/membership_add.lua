-- Notes that a member is in a group, and forgets groups whose time is up.
-- KEYS[1] - groups of the member
-- ARGV[1] - the group
-- ARGV[2] - for how many ms, or '' for no end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('PERSIST', KEYS[1])
return redis.call('ZADD', KEYS[1], ARGV[2] == '' and '+inf' or now + ARGV[2], ARGV[1])
