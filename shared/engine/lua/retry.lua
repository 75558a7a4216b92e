-- Run a failed or cancelled job again, with all its attempts.
--
-- KEYS[1]  meta
-- ARGV     id
-- Returns  1, -1 no such job, -2 in a state that does not allow it

-- include: lib/job.lua
-- include: lib/waiting.lua

local id = ARGV[1]
local key = JOB .. id
local f = redis.call('HMGET', key, 's', 'p', 'n')
if not f[1] then return -1 end
if f[1] ~= 'failed' and f[1] ~= 'cancelled' then return -2 end
redis.call('ZREM', P .. f[1], id)
redis.call('ZREM', EXPIRES, id)
redis.call('HDEL', key, 'fa', 'e', 'c', 'a', 't', 'g', 'pm')
redis.call('HSET', key, 's', 'waiting')
to_waiting(id, f[2], next_place(1))
emit('waiting', id, 'n', f[3])
if not is_paused() then arm_wake() end
return 1
