-- Let a delayed job run now.
--
-- KEYS[1]  meta
-- ARGV     id
-- Returns  1, -1 no such job, -2 in a state that does not allow it

-- include: lib/job.lua
-- include: lib/waiting.lua

local id = ARGV[1]
local key = JOB .. id
local stored = redis.call('HMGET', key, 's', 'i')
local f = standing(stored[1])
if not f then return -1 end
if f.state ~= 'delayed' then return -2 end
local what = identity(stored[2])
redis.call('ZREM', DELAYED, id)
f.state = 'waiting'
redis.call('HSET', key, 's', stand(f))
to_waiting(id, what.priority, next_place(1), what.group)
emit('waiting', id, 'n', what.name)
if not is_paused() then arm_wake() end
flush_events()
return 1
