-- Ends every membership in a group.
-- KEYS[1] - members
-- KEYS[2] - ends
-- Returns 1 if there was one, else 0.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local size = redis.call('ZCARD', KEYS[1]) - redis.call('ZCOUNT', KEYS[2], '-inf', now)
redis.call('DEL', KEYS[1], KEYS[2])
return size > 0 and 1 or 0
