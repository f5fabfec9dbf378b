
-- Forgets failed entries of an inbox.
-- ARGV[4] - the first id, 16 bytes; more behind it
-- Returns how many there were.
local buried = 0
for i = 4, #ARGV do
  if redis.call('ZSCORE', failed, ARGV[i]) then
    remove(ARGV[i], 'f')
    buried = buried + 1
  end
end
close()
return buried
