-- Writes a session of a user.
-- KEYS[1] - sessions of the user
-- KEYS[2] - online mark of the user
-- KEYS[3] - ban of the user
-- ARGV[1] - session
-- ARGV[2] - term of its node
-- ARGV[3] - boot of its node
-- ARGV[4] - what is kept of it, JSON
-- ARGV[5] - after how many ms a session that is not written again counts as gone
-- ARGV[6] - '1' to refuse it if the user is banned
-- Returns the rest of a ban in ms that refused it, or 0; 1 if the session is new, else 0; 1 if the user is
-- online by it, else 0. What the node wrote in a later term stays.
if ARGV[6] == '1' then
  local ban = redis.call('PTTL', KEYS[3])
  if ban > 0 then
    return {ban, 0, 0}
  end
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local before = redis.call('HGET', KEYS[1], ARGV[1])
if not before or tonumber(string.match(before, '^%d+')) <= tonumber(ARGV[2]) then
  local stamp = string.format('%.0f', now)
  redis.call('HSET', KEYS[1], ARGV[1],
    ARGV[2] .. ' ' .. stamp .. ' ' .. ARGV[3] .. ' ' .. ARGV[4])
end
redis.call('PEXPIRE', KEYS[1], ARGV[5])
local online = redis.call('SET', KEYS[2], '1', 'NX', 'PX', ARGV[5])
if not online then
  redis.call('PEXPIRE', KEYS[2], ARGV[5])
end
return {0, before and 0 or 1, online and 1 or 0}
