-- Gives up a session that its client named.
-- KEYS[1] - its owner
-- ARGV[1] - the boot that gives it up
-- Returns 1 if it had it.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
return redis.call('DEL', KEYS[1])
