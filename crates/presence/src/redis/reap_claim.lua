-- A reaper takes it on to clear a node away.
-- KEYS[1] - leases
-- KEYS[2] - standing
-- KEYS[3] - reap of that node
-- ARGV[1] - boot of the node
-- ARGV[2] - boot of the reaper
-- ARGV[3] - for how many ms it is claimed
-- Returns the node's term, or false if its lease stands or another reaper was first. What the node wrote
-- in a later term is not for this reaper.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local lease = redis.call('ZSCORE', KEYS[1], ARGV[1])
if not lease or tonumber(lease) > now then
  return false
end
if not redis.call('SET', KEYS[3], ARGV[2], 'NX', 'PX', ARGV[3]) then
  return false
end
return string.match(redis.call('HGET', KEYS[2], ARGV[1]) or '0', '^%d+')
