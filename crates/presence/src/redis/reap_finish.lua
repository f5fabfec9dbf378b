-- A reaper has cleared a node away: strikes it, unless it began another term meanwhile.
-- KEYS[1] - leases
-- KEYS[2] - standing
-- KEYS[3] - reaped
-- KEYS[4] - reap of that node
-- ARGV[1] - boot of the node
-- ARGV[2] - the term that was cleared away
-- ARGV[3] - for how many ms it is remembered that the node was cleared away
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('DEL', KEYS[4])
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now - ARGV[3])
if string.match(redis.call('HGET', KEYS[2], ARGV[1]) or '0', '^%d+') ~= ARGV[2] then
  return 0
end
redis.call('ZADD', KEYS[3], now, ARGV[1])
redis.call('HDEL', KEYS[2], ARGV[1])
return redis.call('ZREM', KEYS[1], ARGV[1])
