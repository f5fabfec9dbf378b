
-- A page of what is in an inbox.
-- ARGV[4] - behind which number it begins, or '' to begin with what is scheduled
-- ARGV[5] - from which time on, of what is scheduled
-- ARGV[6] - behind which id, of those of that time
-- ARGV[7] - how many entries at most
-- ARGV[8] - how many bytes of a body at most
-- Returns of each the id, the number (0 of a scheduled one), when it was appended, when it is due or 0, when it
-- expires, what it costs, the letter of its state, how often it was handed out, since when, and the
-- beginning of its body; of at most one more than were asked for.
local limit, answer = ARGV[7] + 1, {}
-- The beginning of the body of a record; nothing of one that cannot be read, as of a newer version.
local function beginning(record)
  local length, from = string.match(record, '^%d+ %d+ (%d+) ()', 17)
  if not from then
    return ''
  end
  local function number(at)
    local a, b, c, d = string.byte(record, at, at + 3)
    return d and ((a * 256 + b) * 256 + c) * 256 + d
  end
  local at = from + length
  local texts = string.byte(record, at) == 1 and number(at + 1)
  if not texts then
    return ''
  end
  at = at + 5
  for _ = 1, texts * 2 do
    local size = number(at)
    if not size then
      return ''
    end
    at = at + 4 + size
  end
  return string.sub(record, at, at + ARGV[8] - 1)
end
local function add(id, seq, due, state)
  local record = redis.call('HGET', records, id)
  if not record then
    return
  end
  local appended, cost = read(record)
  local times, since, _, ending = tried(id)
  local expires = tonumber(redis.call('ZSCORE', ends, id) or ending or 0)
  for _, what in ipairs({id, seq, appended, due, expires, cost, state, times, since or appended, beginning(record)}) do
    answer[#answer + 1] = what
  end
end
if ARGV[4] ~= '' then
  local from, found = tonumber(ARGV[4]), {}
  local some = redis.call('ZRANGEBYSCORE', line, '(' .. ARGV[4], '+inf', 'WITHSCORES', 'LIMIT', 0, limit)
  for i = 1, #some, 2 do
    local lapses = tonumber(redis.call('ZSCORE', held, some[i]) or 0)
    found[#found + 1] = {some[i], tonumber(some[i + 1]), lapses > now and 'd' or 'p'}
  end
  for _, id in ipairs(redis.call('ZRANGE', failed, 0, -1)) do
    local _, _, seq = tried(id)
    if seq and seq > from then
      found[#found + 1] = {id, seq, 'f'}
    end
  end
  table.sort(found, function(one, other) return one[2] < other[2] end)
  for n = 1, math.min(#found, limit) do
    add(found[n][1], found[n][2], 0, found[n][3])
  end
end
local offset = 0
while #answer < limit * 10 do
  local some = redis.call('ZRANGEBYSCORE', scheduled, ARGV[5], '+inf', 'WITHSCORES', 'LIMIT', offset, limit)
  for i = 1, #some, 2 do
    if #answer < limit * 10 and (some[i + 1] ~= ARGV[5] or some[i] > ARGV[6]) then
      add(some[i], 0, tonumber(some[i + 1]), 's')
    end
  end
  if #some < limit * 2 then
    break
  end
  offset = offset + limit
end
return answer
