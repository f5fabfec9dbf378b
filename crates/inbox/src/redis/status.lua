
-- How entries stand.
-- ARGV[4] - the first id, 16 bytes; more behind it
-- Returns the letter of the state, how often it was handed out and since when, for each; '', 0, 0 of one that
-- is not known.
local known, answer = false, {}
local function past(id)
  if not known then
    known = {}
    for _, entry in ipairs(redis.call('LRANGE', remembered, 0, -1)) do
      known[string.sub(entry, 1, 16)] = string.sub(entry, 17)
    end
  end
  local state, times, since = string.match(known[id] or '', '^(%a)(%d+) (%d+)$')
  if not state or tonumber(since) + 86400000 <= now then
    return '', 0, 0
  end
  return state, tonumber(times), tonumber(since)
end
local function stands(id)
  local record = redis.call('HGET', records, id)
  if not record then
    return past(id)
  end
  local times, since = tried(id)
  since = since or read(record)
  if redis.call('ZSCORE', failed, id) then
    return 'f', times, since
  end
  local ending = tonumber(redis.call('ZSCORE', ends, id))
  if ending and ending <= now then
    return 'e', times, ending
  elseif redis.call('ZSCORE', scheduled, id) then
    return 's', 0, since
  end
  local lapses = tonumber(redis.call('ZSCORE', held, id))
  if lapses and lapses > now then
    return 'd', times, since
  end
  return 'p', times, lapses or since
end
for i = 4, #ARGV do
  local state, times, since = stands(ARGV[i])
  local n = #answer
  answer[n + 1], answer[n + 2], answer[n + 3] = state, times, since
end
return answer
