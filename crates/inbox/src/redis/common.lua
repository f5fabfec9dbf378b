-- What every script of an inbox begins with. Entries are named by their id, 16 bytes, everywhere.
-- KEYS[1] - about: hash of epoch, last (number given), bytes (all cost), look (when one is due)
-- KEYS[2] - records: hash of id to <from, 16 bytes><appended> <cost> <length of collapse key> <it><message>
-- KEYS[3] - line: sorted by number: what has its place and is not failed
-- KEYS[4] - waiting: sorted by number: of the line, what nobody holds
-- KEYS[5] - held: sorted by when it counts as lost: of the line, what was handed out
-- KEYS[6] - paused: sorted by when it waits again: of the line, what was refused
-- KEYS[7] - tries: hash of id to <times handed out> <since when it stands so>; of a failed one its number
--   and when it would have expired besides
-- KEYS[8] - ends: sorted by when they expire: all but failed ones
-- KEYS[9] - scheduled: sorted by when they are due
-- KEYS[10] - early: sorted by when they were appended: those that are or were scheduled
-- KEYS[11] - failed: sorted by when it is told again: what is to be buried
-- KEYS[12] - collapsed: hash of collapse key to id
-- KEYS[13] - remembered: list of <id><letter of state><times handed out> <since when>
-- KEYS[14] - paths of the user: sorted by 0, or when the inbox is forgotten for there is nothing in it
-- ARGV[1] - how many entries are remembered
-- ARGV[2] - for how many ms an inbox is known that has nothing in it
-- ARGV[3] - its path
local about, records, line, waiting, held, paused, tries = unpack(KEYS, 1, 7)
local ends, scheduled, early, failed, collapsed, remembered, paths = unpack(KEYS, 8, 14)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

-- A time or number as text.
local function text(number)
  return string.format('%.0f', number)
end

-- When a record was appended, its cost and its collapse key.
local function read(record)
  local appended, cost, length, at = string.match(record, '^(%d+) (%d+) (%d+) ()', 17)
  return tonumber(appended), tonumber(cost), string.sub(record, at, at + length - 1)
end

-- How often an entry was handed out, since when it stands so, and a failed one's number and end.
local function tried(id)
  local stored = redis.call('HGET', tries, id)
  if not stored then
    return 0
  end
  local times, since, seq, ending = string.match(stored, '^(%d+) (%d+) ?(%d*) ?(%d*)$')
  return tonumber(times), tonumber(since), tonumber(seq), tonumber(ending)
end

-- A change, as answers have it.
local function tell(changes, id, record, state, times)
  local n = #changes
  changes[n + 1], changes[n + 2] = id, string.sub(record, 1, 16)
  changes[n + 3], changes[n + 4] = state, times
end

-- Takes an entry out for good, and remembers it. The first write is one that a full Redis takes. Of a Redis
-- that was let forget things, what is left of an entry goes without a word.
local function remove(id, state, changes)
  local record = redis.call('HGET', records, id)
  local times = tried(id)
  if redis.call('ZREM', line, id) == 1 then
    local _ = redis.call('ZREM', held, id) == 1 or redis.call('ZREM', waiting, id) == 1
      or redis.call('ZREM', paused, id)
  elseif redis.call('ZREM', scheduled, id) == 0 then
    redis.call('ZREM', failed, id)
  end
  redis.call('ZREM', ends, id)
  redis.call('ZREM', early, id)
  redis.call('HDEL', tries, id)
  if not record then
    return
  end
  local _, cost, collapse = read(record)
  redis.call('HDEL', records, id)
  if collapse ~= '' and redis.call('HGET', collapsed, collapse) == id then
    redis.call('HDEL', collapsed, collapse)
  end
  redis.call('HINCRBY', about, 'bytes', -cost)
  if tonumber(ARGV[1]) > 0 then
    local length = redis.call('RPUSH', remembered, id .. state .. times .. ' ' .. text(now))
    if length > tonumber(ARGV[1]) then
      redis.call('LTRIM', remembered, -ARGV[1], -1)
    end
    redis.call('PEXPIRE', remembered, 86400000)
  end
  if changes then
    tell(changes, id, record, state, times)
  end
end

-- The record of an entry of the line and its number; nothing if a part of it was forgotten, which removes it.
local function whole(id)
  local record, seq = redis.call('HGET', records, id), redis.call('ZSCORE', line, id)
  if record and seq then
    return record, seq
  end
  remove(id, 'x')
end

-- An entry, as answers have it.
local function hand_out(entries, id, seq, times, fresh, record)
  local n = #entries
  entries[n + 1], entries[n + 2], entries[n + 3] = id, seq, times
  entries[n + 4], entries[n + 5] = fresh, record
end

-- An entry has failed: it is remembered, or kept until it is buried.
local function fail(id, seq, keeps, told_again, changes, entries)
  local record = redis.call('HGET', records, id)
  local times = tried(id)
  if not keeps then
    remove(id, 'f', changes)
  else
    local ending = redis.call('ZSCORE', ends, id) or '0'
    for _, key in ipairs({line, waiting, held, paused, ends, early}) do
      redis.call('ZREM', key, id)
    end
    redis.call('HSET', tries, id, times .. ' ' .. text(now) .. ' ' .. text(seq) .. ' ' .. ending)
    redis.call('ZADD', failed, now + told_again, id)
    if changes then
      tell(changes, id, record, 'f', times)
    end
  end
  hand_out(entries, id, seq, times, 0, record)
end

-- Whether an index must be told that there is something to look for at that time: 0, or the time.
local function wanted(at)
  local look = tonumber(redis.call('HGET', about, 'look') or 0)
  if look > now and look <= at then
    return 0
  end
  redis.call('HSET', about, 'look', text(at))
  return at
end

-- Forgets in time an inbox that has nothing in it; to be called when something has left it.
local function close()
  for _, key in ipairs({line, scheduled, failed}) do
    if redis.call('ZCARD', key) > 0 then
      return
    end
  end
  redis.call('HDEL', about, 'bytes')
  redis.call('PEXPIRE', about, ARGV[2])
  redis.call('ZREMRANGEBYSCORE', paths, '(0', now)
  redis.call('ZADD', paths, 'XX', now + ARGV[2], ARGV[3])
  if redis.call('ZCOUNT', paths, 0, 0) == 0 then
    redis.call('PEXPIRE', paths, ARGV[2])
  end
end

-- How much there is: scheduled, pending, delivered, failed, bytes, and when the oldest was appended.
local function count()
  local delivered = redis.call('ZCOUNT', held, '(' .. text(now), '+inf')
  local oldest = 0
  local function older(id)
    local record = id and redis.call('HGET', records, id)
    local appended = record and read(record)
    if appended and (oldest == 0 or appended < oldest) then
      oldest = appended
    end
  end
  older(redis.call('ZRANGE', line, 0, 0)[1])
  older(redis.call('ZRANGE', early, 0, 0)[1])
  for _, id in ipairs(redis.call('ZRANGE', failed, 0, 99)) do
    older(id)
  end
  return {
    redis.call('ZCARD', scheduled), redis.call('ZCARD', line) - delivered, delivered,
    redis.call('ZCARD', failed), tonumber(redis.call('HGET', about, 'bytes') or 0), oldest,
  }
end
