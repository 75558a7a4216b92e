-- Delete a job that is not running.
--
-- KEYS[1]  meta
-- ARGV     id
-- Returns  1, -1 no such job, -2 in a state that does not allow it

-- include: lib/job.lua
-- include: lib/finish.lua

local id = ARGV[1]
local f = redis.call('HMGET', JOB .. id, 's', 'n')
if not f[1] then return -1 end
if f[1] == 'active' then return -2 end
redis.call('ZREM', P .. f[1], id)
delete_jobs({id})
emit('removed', id, 'n', f[2])
return 1
