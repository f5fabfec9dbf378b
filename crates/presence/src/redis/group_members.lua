-- A page of a group's members.
-- KEYS[1] - members
-- KEYS[2] - ends
-- ARGV[1] - where it begins: '-' or '(' and the last member of the page before
-- ARGV[2] - how many at most
-- Returns the members in order; in front of each '1', or '0' if its time is up.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local page = {}
for _, member in ipairs(redis.call('ZRANGEBYLEX', KEYS[1], ARGV[1], '+', 'LIMIT', 0, ARGV[2])) do
  local ends = redis.call('ZSCORE', KEYS[2], member)
  local live = not ends or tonumber(ends) > now
  page[#page + 1] = (live and '1' or '0') .. member
end
return page
