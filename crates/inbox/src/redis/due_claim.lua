-- Takes inboxes that are to be looked at, for a while.
-- KEYS[1] - due: sorted by when they are to be looked at
-- KEYS[2] - looking: sorted by when whoever looks at them counts as dead
-- ARGV[1] - for how many ms
-- ARGV[2] - how many at most
-- Returns '1' if there are more, else '0'; and the inboxes.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local taken = {'0'}
for _, key in ipairs({KEYS[2], KEYS[1]}) do
  local left = ARGV[2] + 1 - #taken
  local some = redis.call('ZRANGEBYSCORE', key, '-inf', now, 'LIMIT', 0, left + 1)
  for n, inbox in ipairs(some) do
    if n > left then
      taken[1] = '1'
    else
      -- The first write is one that a full Redis takes.
      redis.call('ZREM', key, inbox)
      redis.call('ZADD', KEYS[2], now + ARGV[1], inbox)
      taken[#taken + 1] = inbox
    end
  end
end
return taken
