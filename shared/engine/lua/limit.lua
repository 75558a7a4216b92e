-- Change the limits of a queue or of one of its groups.
--
-- KEYS[1]  meta
-- ARGV     field of meta: 'lim', or 'lg:<group>'; limits as in lib/limits.lua ('' to forget them); the same as JSON
-- Returns  1

-- include: lib/job.lua
-- include: lib/waiting.lua

if ARGV[2] == '' then
  redis.call('HDEL', META, ARGV[1], ARGV[1] .. ':j')
else
  redis.call('HSET', META, ARGV[1], ARGV[2], ARGV[1] .. ':j', ARGV[3])
end
-- Whoever was held back is looked at anew.
local parked = redis.call('ZRANGE', PARKED, 0, 999)
for n = 1, #parked do unpark(parked[n]) end
emit('limited', '')
if has_waiting() and not is_paused() then arm_wake() end
flush_events()
return 1
