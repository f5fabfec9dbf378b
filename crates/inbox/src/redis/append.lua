
-- Appends an entry to an inbox.
-- KEYS[15] - the idempotency key, if there is one: <id, 16 bytes> <epoch>
-- ARGV[4] - id, 16 bytes
-- ARGV[5] - who is told what becomes of it, 16 bytes
-- ARGV[6] - the epoch of the inbox if this begins one
-- ARGV[7] - what it costs
-- ARGV[8] - how many entries the inbox may have
-- ARGV[9] - how much they may cost
-- ARGV[10] - '1' if the oldest give way in a full inbox
-- ARGV[11] - for how many ms it waits at most
-- ARGV[12] - when it expires in any case, or ''
-- ARGV[13] - when it is due, or ''
-- ARGV[14] - its collapse key, or ''
-- ARGV[15] - for how many ms the idempotency key is known
-- ARGV[16] - the message
-- Returns 'known' and the id; or 'full' and how much there is; or 'stored' or 'scheduled', the time, the
-- epoch, the number (0 of a scheduled one), and the changes.
local id, cost, collapse = ARGV[4], tonumber(ARGV[7]), ARGV[14]
local epoch = redis.call('HGET', about, 'epoch')
if KEYS[15] and epoch then
  local known = redis.call('GET', KEYS[15])
  if known and string.sub(known, 18) == epoch then
    return {'known', string.sub(known, 1, 16)}
  end
end
-- A Cluster's client may say it twice.
if epoch and redis.call('HEXISTS', records, id) == 1 then
  local seq = redis.call('ZSCORE', line, id)
  return {seq and 'stored' or 'scheduled', now, epoch, tonumber(seq or 0), {}}
end

-- What it takes the place of.
local old, spared, _ = false, 0, nil
if collapse ~= '' then
  old = redis.call('HGET', collapsed, collapse)
  local record = old and redis.call('HGET', records, old)
  if not record or tried(old) > 0 then
    old = false
  else
    _, spared = read(record)
  end
end
local function room()
  local there = redis.call('ZCARD', line) + redis.call('ZCARD', scheduled) + redis.call('ZCARD', failed)
  local bytes = tonumber(redis.call('HGET', about, 'bytes') or 0) - spared
  return there + (old and 0 or 1) <= tonumber(ARGV[8]) and bytes + cost <= tonumber(ARGV[9])
end
if not room() and (ARGV[10] ~= '1' or cost > tonumber(ARGV[9])) then
  return {'full', count()}
end
local changes = {}
if old then
  remove(old, 'x', changes)
  old, spared = false, 0
end
if not room() then
  for _, ended in ipairs(redis.call('ZRANGEBYSCORE', ends, '-inf', now, 'LIMIT', 0, 100)) do
    remove(ended, 'e', changes)
  end
end
while not room() do
  local oldest = redis.call('ZRANGE', line, 0, 0)[1] or redis.call('ZRANGE', scheduled, 0, 0)[1]
    or redis.call('ZRANGE', failed, 0, 0)[1]
  if not oldest then
    break
  end
  remove(oldest, 'x', changes)
end

-- The first write where nothing was removed; a full Redis refuses it.
local due = tonumber(ARGV[13])
local is_late = due and due > now
redis.call('HSET', records, id,
  ARGV[5] .. text(now) .. ' ' .. ARGV[7] .. ' ' .. #collapse .. ' ' .. collapse .. ARGV[16])
if not epoch then
  epoch = ARGV[6]
  -- Of an inbox that has lost what is known about it, the line may be left.
  local last = redis.call('ZRANGE', line, -1, -1, 'WITHSCORES')[2] or 0
  redis.call('HSET', about, 'epoch', epoch, 'last', last)
end
redis.call('HINCRBY', about, 'bytes', cost)
-- It has been empty, and would be forgotten.
if redis.call('HLEN', records) == 1 then
  redis.call('PERSIST', about)
  redis.call('ZADD', paths, 0, ARGV[3])
  redis.call('PERSIST', paths)
end
local expires = (is_late and due or now) + ARGV[11]
if ARGV[12] ~= '' then
  expires = math.min(expires, tonumber(ARGV[12]))
end
redis.call('ZADD', ends, expires, id)
if collapse ~= '' then
  redis.call('HSET', collapsed, collapse, id)
end
if KEYS[15] then
  redis.call('SET', KEYS[15], id .. ' ' .. epoch, 'PX', ARGV[15])
end
if is_late then
  redis.call('ZADD', scheduled, due, id)
  redis.call('ZADD', early, now, id)
  return {'scheduled', now, epoch, 0, changes}
end
local seq = redis.call('HINCRBY', about, 'last', 1)
redis.call('ZADD', line, seq, id)
redis.call('ZADD', waiting, seq, id)
return {'stored', now, epoch, seq, changes}
