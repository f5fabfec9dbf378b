-- Gives back inboxes that were looked at.
-- KEYS[1] - due: sorted by when they are to be looked at
-- KEYS[2] - looking: sorted by when whoever looks at them counts as dead
-- ARGV[1..] - each inbox and when it is to be looked at again, or 0
-- Returns how many there were.
for i = 1, #ARGV, 2 do
  -- The first write is one that a full Redis takes.
  redis.call('ZREM', KEYS[2], ARGV[i])
  if ARGV[i + 1] ~= '0' then
    redis.call('ZADD', KEYS[1], 'LT', ARGV[i + 1], ARGV[i])
  end
end
return #ARGV / 2
