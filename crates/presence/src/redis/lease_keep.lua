-- A node renews its lease, if it still has it.
-- KEYS[1] - epoch
-- KEYS[2] - leases
-- KEYS[3] - standing
-- ARGV[1] - boot
-- ARGV[2] - term
-- ARGV[3] - length of the lease in ms
-- ARGV[4] - 'full' or 'partial'
-- Returns the epoch, or false if the lease has run out, is gone or is of another term.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local lease = redis.call('ZSCORE', KEYS[2], ARGV[1])
if not lease or tonumber(lease) <= now then
  return false
end
if string.match(redis.call('HGET', KEYS[3], ARGV[1]) or '', '^%d+') ~= ARGV[2] then
  return false
end
redis.call('ZADD', KEYS[2], now + ARGV[3], ARGV[1])
redis.call('HSET', KEYS[3], ARGV[1], ARGV[2] .. ' ' .. ARGV[4])
return redis.call('GET', KEYS[1])
