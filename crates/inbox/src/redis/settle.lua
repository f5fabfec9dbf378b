
-- Settles entries of an inbox.
-- ARGV[4] - the epoch in which they were taken
-- ARGV[5] - after how many ms an entry is tried again that was refused the first time
-- ARGV[6] - how often an entry is handed out
-- ARGV[7] - '1' if failed ones are kept
-- ARGV[8] - after how many ms these are told again
-- ARGV[9] - the first number; behind it 'ack', 'nack', 'reject' or 'release', the next number, ...
-- Returns the time, when to look again or 0, the changes, and the entries that have failed.
if redis.call('HGET', about, 'epoch') ~= ARGV[4] then
  return {now, 0, {}, {}}
end
local changes, lost, again = {}, {}, math.huge
for i = 9, #ARGV, 2 do
  local seq, what = tonumber(ARGV[i]), ARGV[i + 1]
  local id = redis.call('ZRANGEBYSCORE', line, ARGV[i], ARGV[i], 'LIMIT', 0, 1)[1]
  local record = id and whole(id)
  local times = record and tried(id)
  if not record then
    -- Settled elsewhere, or expired.
  elseif what == 'ack' then
    remove(id, 'a', changes)
  elseif what == 'reject' then
    fail(id, seq, ARGV[7] == '1', ARGV[8], changes, lost)
  elseif redis.call('ZREM', held, id) == 1 then
    if what == 'nack' and times >= tonumber(ARGV[6]) then
      fail(id, seq, ARGV[7] == '1', ARGV[8], changes, lost)
    else
      if what == 'nack' then
        local pause = math.min(ARGV[5] * 2 ^ math.min(times - 1, 20), 300000)
        redis.call('ZADD', paused, now + pause, id)
        again = math.min(again, now + pause)
      else
        redis.call('ZADD', waiting, seq, id)
      end
      redis.call('HSET', tries, id, times .. ' ' .. text(now))
      tell(changes, id, record, 'p', times)
    end
  end
end
if ARGV[7] == '1' and #lost > 0 then
  again = math.min(again, now + ARGV[8])
end
close()
return {now, again < math.huge and wanted(again) or 0, changes, ARGV[7] == '1' and lost or {}}
