-- Give a job that has not begun another priority.
--
-- KEYS[1]  meta
-- ARGV     id, priority
-- Returns  1, -1 no such job, -2 in a state that does not allow it

-- include: lib/job.lua
-- include: lib/waiting.lua

local id = ARGV[1]
local key = JOB .. id
local stored = redis.call('HMGET', key, 's', 'i')
local f = standing(stored[1])
if not f then return -1 end
if f.state ~= 'waiting' and f.state ~= 'delayed' and f.state ~= 'blocked' then return -2 end
local what = identity(stored[2])
what.priority = ARGV[2]
redis.call('HSET', key, 'i', what.mark .. table.concat({what.name, what.priority, what.added, what.ms, what.keep, what.group,
  what.dedupe, what.flow, what.options}, '\n'))
if f.state == 'waiting' then
  leave_waiting(id, what.group)
  to_waiting(id, what.priority, next_place(1), what.group)
end
emit('reprioritised', id, 'n', what.name, 'p', what.priority)
flush_events()
return 1
