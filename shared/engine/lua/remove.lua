-- Delete a job that is not running.
--
-- KEYS[1]  meta
-- ARGV     id
-- Returns  1, -1 no such job, -2 in a state that does not allow it

-- include: lib/job.lua
-- include: lib/waiting.lua
-- include: lib/finish.lua

local id = ARGV[1]
local key = JOB .. id
local stored = redis.call('HMGET', key, 's', 'i')
local f = standing(stored[1])
if not f then return -1 end
if f.state == 'active' then return -2 end
forget(id, key, f, stored[2])
flush_events()
return 1
