-- Removes sessions from the index of their node.
-- KEYS[1] - sessions on the node
-- ARGV[1] - the highest term in which what was written is removed
-- ARGV[2..] - the sessions
local removed = 0
for i = 2, #ARGV do
  local term = string.match(redis.call('HGET', KEYS[1], ARGV[i]) or '', '^%d+')
  if term and tonumber(term) <= tonumber(ARGV[1]) then
    removed = removed + redis.call('HDEL', KEYS[1], ARGV[i])
  end
end
return removed
