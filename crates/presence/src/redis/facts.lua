-- What Redis vouches for: its epoch, and the nodes that are registered completely; and its time.
-- KEYS[1] - epoch
-- KEYS[2] - leases
-- KEYS[3] - standing
-- Returns the epoch, or false, a list of boot, term, boot, term, ... and the time in ms.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local full = {}
for _, boot in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '(' .. now, '+inf')) do
  local term, standing = string.match(redis.call('HGET', KEYS[3], boot) or '', '^(%d+) (%a+)$')
  if standing == 'full' then
    full[#full + 1] = boot
    full[#full + 1] = term
  end
end
return {redis.call('GET', KEYS[1]), full, now}
