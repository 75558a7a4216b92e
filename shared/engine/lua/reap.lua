-- Take jobs from workers whose lease ran out.
--
-- KEYS[1]  meta
-- ARGV     default most stalls
-- Returns  {their ids, steps in the outbox}

-- include: lib/job.lua
-- include: lib/waiting.lua
-- include: lib/limits.lua
-- include: lib/finish.lua
-- include: lib/reap.lua

local ids = reap(server_ms(), ARGV[1])
if #ids > 0 and not is_paused() then arm_wake() end
flush_events()
return {ids, redis.call('XLEN', OUTBOX)}
