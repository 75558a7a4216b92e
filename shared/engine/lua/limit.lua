-- Change the limits of a queue or of one of its groups.
--
-- KEYS[1]  meta
-- ARGV     field of meta: 'lim', or 'lg:<group>'; limits as in lib/limits.lua ('' to forget them); the same as JSON
-- Returns  1

-- include: lib/job.lua
-- include: lib/waiting.lua

local AT_ONCE = 100

if ARGV[2] == '' then
  redis.call('HDEL', META, ARGV[1], ARGV[1] .. ':j')
else
  redis.call('HSET', META, ARGV[1], ARGV[2], ARGV[1] .. ':j', ARGV[3])
end
-- Whoever was held back is looked at anew: one group at once, of all some at once and the others by the next calls.
local group = string.match(ARGV[1], '^lg:(.*)$')
if group then
  unpark(group)
else
  local parked = redis.call('ZRANGE', PARKED, 0, -1)
  for n = 1, math.min(#parked, AT_ONCE) do unpark(parked[n]) end
  local now = server_ms()
  for n = AT_ONCE + 1, #parked do redis.call('ZADD', PARKED, now, parked[n]) end
end
emit('limited', '')
if has_waiting() and not is_paused() then arm_wake() end
flush_events()
return 1
