-- Tell how full the server of a queue is.
--
-- KEYS[1]  meta
-- Returns  INFO's section on memory

return redis.call('INFO', 'memory')
