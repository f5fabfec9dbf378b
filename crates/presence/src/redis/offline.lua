-- Takes the online mark from a user who has no session.
-- KEYS[1] - sessions of the user
-- KEYS[2] - online mark of the user
-- Returns 2 if the user has a session, 1 if the mark was taken, 0 if there was none.
if redis.call('EXISTS', KEYS[1]) == 1 then
  return 2
end
return redis.call('DEL', KEYS[2])
