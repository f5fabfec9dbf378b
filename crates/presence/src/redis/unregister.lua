-- Removes a session of a user.
-- KEYS[1] - sessions of the user
-- KEYS[2] - online mark of the user
-- ARGV[1] - session
-- ARGV[2] - the highest term of its node in which what was written is removed
-- ARGV[3] - after how many ms the online mark is forgotten
-- ARGV[4] - '1' if the user is owed an offline event though the mark may be lost
-- Returns 1 if the session was removed, else 0; 1 if the user has no session now, else 0.
local before = redis.call('HGET', KEYS[1], ARGV[1])
local removed = 0
if before and tonumber(string.match(before, '^%d+')) <= tonumber(ARGV[2]) then
  removed = redis.call('HDEL', KEYS[1], ARGV[1])
end
local empty = redis.call('EXISTS', KEYS[1]) == 0
if empty and ARGV[4] == '1' then
  redis.call('SET', KEYS[2], '1', 'PX', ARGV[3])
end
return {removed, empty and 1 or 0}
