
-- Forgets an inbox with all that is in it. Idempotency keys are of its epoch, which no other has.
-- Returns how many keys there were.
redis.call('ZREM', paths, ARGV[3])
return redis.call('UNLINK', about, records, line, waiting, held, paused, tries, ends, scheduled, early, failed,
  collapsed, remembered)
