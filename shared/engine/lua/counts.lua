-- Count a queue's jobs, at one moment.
--
-- KEYS[1]  meta
-- Returns  waiting, delayed, blocked, active, completed, failed, cancelled, paused (0 or 1)

-- include: lib/job.lua
-- include: lib/waiting.lua

return {
  count_waiting(), redis.call('ZCARD', DELAYED), redis.call('ZCARD', BLOCKED),
  redis.call('ZCARD', ACTIVE), redis.call('ZCARD', P .. 'completed'), redis.call('ZCARD', P .. 'failed'),
  redis.call('ZCARD', P .. 'cancelled'), is_paused() and 1 or 0,
}
