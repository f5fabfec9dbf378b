
-- Drops entries of an inbox.
-- ARGV[4] - the first id, 16 bytes; more behind it
-- Returns the time and the changes.
local changes = {}
for i = 4, #ARGV do
  remove(ARGV[i], 'x', changes)
end
close()
return {now, changes}
