-- Tell the time.
--
-- KEYS[1]  meta
-- Returns  seconds and microseconds since the epoch

return redis.call('TIME')
