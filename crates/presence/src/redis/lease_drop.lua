-- A node gives its lease up.
-- KEYS[1] - leases
-- KEYS[2] - standing
-- ARGV[1] - boot
redis.call('ZREM', KEYS[1], ARGV[1])
return redis.call('HDEL', KEYS[2], ARGV[1])
