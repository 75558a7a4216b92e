-- Run a failed or cancelled job again, with all its attempts.
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
if f.state ~= 'failed' and f.state ~= 'cancelled' then return -2 end
local what = identity(stored[2])
leave_finished(id, key, f.state)
redis.call('HDEL', key, 'e', 'g', 'pm')
f.state, f.a, f.t, f.at, f.flags = 'waiting', '0', '0', '0', without_flag(f.flags, 'c')
redis.call('HSET', key, 's', stand(f))
local mode, _, dedupe_key = string.match(what.dedupe, '^(%S+) (%S+) (.*)$')
if mode == 'reject' then
  local holder = redis.call('GET', DEDUPE .. dedupe_key)
  if not holder or holder == id then redis.call('SET', DEDUPE .. dedupe_key, id) end
end
to_waiting(id, what.priority, next_place(1), what.group)
emit('waiting', id, 'n', what.name)
if not is_paused() then arm_wake() end
flush_events()
return 1
