
-- Claims entries for a subscriber.
-- ARGV[4] - the epoch of where it is, or ''
-- ARGV[5] - the number up to which it has had everything, or 'end'
-- ARGV[6] - how many entries at most
-- ARGV[7] - how many bytes at most, but for the first
-- ARGV[8] - after how many ms a claim counts as lost
-- ARGV[9] - how often an entry is handed out
-- ARGV[10] - '1' if failed ones are kept
-- ARGV[11] - after how many ms these are told again
-- Returns the time, the epoch or '', the number up to which it has had everything now, 1 if there is more,
-- when to look again or 0, the entries, and those that have failed.
local epoch, last = unpack(redis.call('HMGET', about, 'epoch', 'last'))
if not epoch then
  return {now, '', 0, 0, 0, {}, {}}
end
last = tonumber(last)
local limit, room, longest = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[9])
local cursor = 0
if ARGV[5] == 'end' then
  cursor = math.huge
elseif ARGV[4] == epoch then
  cursor = tonumber(ARGV[5])
end
local upto, bytes, entries, lost = math.min(cursor, last), 0, {}, {}
local more, claimed = false, false

-- Hands an entry out, if it can be; false when there is no room for it.
local function take(id, seq)
  local ending = redis.call('ZSCORE', ends, id)
  local record = redis.call('HGET', records, id)
  if not record then
    remove(id, 'x')
    return true
  elseif ending and tonumber(ending) <= now then
    return true
  end
  local times = tried(id)
  local lapses = redis.call('ZSCORE', held, id)
  local is_held = lapses and tonumber(lapses) > now
  if not is_held and times >= longest then
    fail(id, seq, ARGV[10] == '1', ARGV[11], nil, lost)
    return true
  end
  local _, cost = read(record)
  local size = cost - 128
  if #entries > 0 and (#entries >= limit * 5 or bytes + size > room) then
    return false
  end
  bytes = bytes + size
  -- The first write is one that a full Redis takes.
  redis.call('ZREM', waiting, id)
  redis.call('ZREM', paused, id)
  if not is_held then
    redis.call('HSET', tries, id, (times + 1) .. ' ' .. text(now))
  end
  redis.call('ZADD', held, now + ARGV[8], id)
  claimed = true
  hand_out(entries, id, seq, times, is_held and 0 or 1, record)
  return true
end

-- What nobody holds of what it had.
if cursor > 0 then
  local free = {}
  local top = cursor == math.huge and '+inf' or text(cursor)
  local some = redis.call('ZRANGEBYSCORE', waiting, '-inf', top, 'WITHSCORES', 'LIMIT', 0, limit + 1)
  more = #some > limit * 2
  for i = 1, #some, 2 do
    free[#free + 1] = {some[i], tonumber(some[i + 1])}
  end
  for _, key in ipairs({held, paused}) do
    for _, id in ipairs(redis.call('ZRANGEBYSCORE', key, '-inf', now, 'LIMIT', 0, 1000)) do
      local seq = tonumber(redis.call('ZSCORE', line, id) or math.huge)
      if seq <= cursor then
        free[#free + 1] = {id, seq}
      end
    end
  end
  table.sort(free, function(one, other) return one[2] < other[2] end)
  for _, entry in ipairs(free) do
    if not take(entry[1], entry[2]) then
      more = true
      break
    end
  end
end
-- What is behind it.
if not more and cursor < last then
  local left = limit - #entries / 5
  local some = redis.call('ZRANGEBYSCORE', line, '(' .. text(cursor), '+inf', 'WITHSCORES', 'LIMIT', 0, left + 1)
  for i = 1, #some, 2 do
    local seq = tonumber(some[i + 1])
    if not take(some[i], seq) then
      more = true
      break
    end
    upto = seq
  end
  if not more and #some > left * 2 then
    more = true
  elseif not more then
    upto = last
  end
end
local again = claimed and now + ARGV[8] or math.huge
if #lost > 0 then
  close()
  if ARGV[10] == '1' then
    again = math.min(again, now + ARGV[11])
  end
end
return {now, epoch, upto, more and 1 or 0, again < math.huge and wanted(again) or 0, entries, lost}
