-- A node begins a term: it has a lease from now on, and is not registered completely.
-- KEYS[1] - epoch
-- KEYS[2] - leases
-- KEYS[3] - standing
-- KEYS[4] - reaped
-- ARGV[1] - boot
-- ARGV[2] - term, higher than any this boot had
-- ARGV[3] - length of the lease in ms
-- ARGV[4] - the epoch to begin if there is none
-- Returns the epoch, and 1 if the node was cleared away since it took its last lease, else 0.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('SET', KEYS[1], ARGV[4], 'NX')
redis.call('ZADD', KEYS[2], now + ARGV[3], ARGV[1])
redis.call('HSET', KEYS[3], ARGV[1], ARGV[2] .. ' partial')
return {redis.call('GET', KEYS[1]), redis.call('ZREM', KEYS[4], ARGV[1])}
