-- Store where a running job would go on after a failure.
--
-- KEYS[1]  meta
-- ARGV     id, token, state
-- Returns  1 held, 2 held and somebody asked to cancel it, -1 lease lost (nothing was stored)

-- include: lib/job.lua

local key = JOB .. ARGV[1]
local f = redis.call('HMGET', key, 's', 'l', 'c')
if f[1] ~= 'active' or f[2] ~= ARGV[2] then return -1 end
redis.call('HSET', key, 'ck', ARGV[3], 'cf', 1)
return f[3] and 2 or 1
