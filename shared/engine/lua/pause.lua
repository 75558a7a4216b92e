-- Stop handing out jobs; running ones go on.
--
-- KEYS[1]  meta
-- Returns  1, or 0 when it was paused already

-- include: lib/job.lua

if is_paused() then return 0 end
redis.call('HSET', META, 'paused', server_ms())
redis.call('DEL', WAKE)
emit('paused', '')
flush_events()
return 1
