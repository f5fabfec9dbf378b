-- The sessions of a user. One whose node has not written it for long is a remnant, and removed.
-- KEYS[1] - sessions of the user
-- ARGV[1] - after how many ms a session that is not written again counts as gone
-- Returns session, value, session, value, ...
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local all = redis.call('HGETALL', KEYS[1])
local live = {}
for i = 1, #all, 2 do
  local stamp = tonumber(string.match(all[i + 1], '^%d+ (%d+) '))
  if stamp and stamp > now - ARGV[1] then
    live[#live + 1] = all[i]
    live[#live + 1] = all[i + 1]
  else
    redis.call('HDEL', KEYS[1], all[i])
  end
end
return live
