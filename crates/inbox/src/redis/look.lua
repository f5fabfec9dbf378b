
-- Moves on what time moves on.
-- ARGV[4] - after how many ms failed entries are told again
-- ARGV[5] - how many entries at most of each kind
-- ARGV[6] - after how many ms it is told again that there is something to take; 0 is never
-- Returns the time, when to look again or 0, 1 if there is something to take that was not, the changes, and
-- the failed entries that nobody has buried.
local changes, lost, is_due = {}, {}, 0
local function over(key)
  return ipairs(redis.call('ZRANGEBYSCORE', key, '-inf', now, 'LIMIT', 0, ARGV[5]))
end
for _, id in over(ends) do
  remove(id, 'e', changes)
end
for _, id in over(scheduled) do
  local record = redis.call('HGET', records, id)
  redis.call('ZREM', scheduled, id)
  if record then
    local seq = redis.call('HINCRBY', about, 'last', 1)
    redis.call('ZADD', line, seq, id)
    redis.call('ZADD', waiting, seq, id)
    redis.call('HSET', tries, id, '0 ' .. text(now))
    tell(changes, id, record, 'p', 0)
    is_due = 1
  end
end
for _, id in over(held) do
  local record, seq = whole(id)
  redis.call('ZREM', held, id)
  if record then
    redis.call('ZADD', waiting, seq, id)
    local times = tried(id)
    redis.call('HSET', tries, id, times .. ' ' .. text(now))
    tell(changes, id, record, 'p', times)
    is_due = 1
  end
end
for _, id in over(paused) do
  local record, seq = whole(id)
  redis.call('ZREM', paused, id)
  if record then
    redis.call('ZADD', waiting, seq, id)
    is_due = 1
  end
end
for _, id in over(failed) do
  local record = redis.call('HGET', records, id)
  redis.call('ZREM', failed, id)
  if record then
    local times, _, seq = tried(id)
    redis.call('ZADD', failed, now + ARGV[4], id)
    hand_out(lost, id, seq or 0, times, 0, record)
  end
end
local again = math.huge
for _, key in ipairs({ends, scheduled, held, paused, failed}) do
  local first = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')[2]
  again = math.min(again, tonumber(first or math.huge))
end
if ARGV[6] ~= '0' and redis.call('ZCARD', waiting) > 0 then
  is_due = 1
  again = math.min(again, now + ARGV[6])
end
close()
if again == math.huge then
  redis.call('HDEL', about, 'look')
  return {now, 0, is_due, changes, lost}
end
-- The first write is one that a full Redis takes.
redis.call('HDEL', about, 'look')
redis.call('HSET', about, 'look', text(again))
return {now, again, is_due, changes, lost}
