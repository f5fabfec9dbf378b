-- The node of a session came back: its membership ends when it was to end.
-- KEYS[1] - members
-- KEYS[2] - ends
-- ARGV[1] - the member
-- ARGV[2] - the end, in ms of Redis's clock, or 'inf'
if not redis.call('ZSCORE', KEYS[1], ARGV[1]) then
  return 0
end
if ARGV[2] == 'inf' then
  redis.call('ZREM', KEYS[2], ARGV[1])
else
  redis.call('ZADD', KEYS[2], ARGV[2], ARGV[1])
end
return 1
