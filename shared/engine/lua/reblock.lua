-- Let a job of a flow that failed or was cancelled wait again for others.
--
-- KEYS[1]  meta
-- ARGV     id, then 2 values for each that it waits for: full id, on failure
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
leave_finished(id, key, f.state)
local names = redis.call('HKEYS', key)
for n = 1, #names do
  if string.sub(names[n], 1, 2) == 'D:' then redis.call('HDEL', key, names[n]) end
end
redis.call('HDEL', key, 'e', 'g', 'pm')
for n = 2, #ARGV, 2 do
  redis.call('HSET', key, 'D:' .. ARGV[n], ARGV[n + 1])
  redis.call('HDEL', key, 'R:' .. ARGV[n])
end
f.state, f.a, f.t, f.at, f.flags = 'blocked', '0', '0', '0', without_flag(f.flags, 'c')
redis.call('HSET', key, 's', stand(f), 'dn', (#ARGV - 1) / 2)
redis.call('ZADD', BLOCKED, server_ms(), id)
emit('blocked', id, 'n', name_of(stored[2]))
flush_events()
return 1
