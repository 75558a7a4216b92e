-- Store where a running job would go on after a failure.
--
-- KEYS[1]  meta
-- ARGV     id, token, state
-- Returns  1 held, 2 held and somebody asked to cancel it, -1 lease lost (nothing was stored)

-- include: lib/job.lua

local key = JOB .. ARGV[1]
local f = standing(redis.call('HGET', key, 's'))
if not f or f.state ~= 'active' or f.l ~= ARGV[2] then return -1 end
f.flags = with_flag(f.flags, 'k')
redis.call('HSET', key, 'ck', ARGV[3], 's', stand(f))
return has_flag(f.flags, 'c') and 2 or 1
