-- Claims a session that its client named.
-- KEYS[1] - its owner
-- ARGV[1] - the boot that claims it
-- ARGV[2] - for how many ms
-- Returns whose it is now.
local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[1] then
  return owner
end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return ARGV[1]
