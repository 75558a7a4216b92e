-- Hand out jobs again.
--
-- KEYS[1]  meta
-- Returns  1, or 0 when it was not paused

-- include: lib/job.lua

if redis.call('HDEL', META, 'paused') == 0 then return 0 end
emit('resumed', '')
arm_wake()
flush_events()
return 1
