-- Change the limits of a queue or of one of its groups.
--
-- KEYS[1]  meta
-- ARGV     field of meta: 'lim', or 'lg:<group>'; limits as in lib/limits.lua ('' to forget them); the same as JSON;
--          where to go on with the groups that are held back ('0' at the beginning)
-- Returns  where to go on, '0' at the end

-- include: lib/job.lua
-- include: lib/waiting.lua

if ARGV[2] == '' then
  redis.call('HDEL', META, ARGV[1], 'j:' .. ARGV[1])
else
  redis.call('HSET', META, ARGV[1], ARGV[2], 'j:' .. ARGV[1], ARGV[3])
end
-- Whoever was held back is looked at anew: one group at once, of all some at a call.
local group = string.match(ARGV[1], '^lg:(.*)$')
local go_on = '0'
if group then
  unpark(group)
else
  local parked = redis.call('ZSCAN', PARKED, ARGV[4], 'COUNT', 50)
  for n = 1, #parked[2], 2 do unpark(parked[2][n]) end
  go_on = parked[1]
end
if ARGV[4] == '0' then emit('limited', '') end
if has_waiting() and not is_paused() then arm_wake() end
flush_events()
return go_on
