-- Cancel a job. A running one is asked to stop, and stays active until its worker says how it ended.
--
-- KEYS[1]  meta
-- ARGV     id
-- Returns  the state after, -1 no such job, -2 finished already

-- include: lib/job.lua
-- include: lib/waiting.lua
-- include: lib/finish.lua

local id = ARGV[1]
local key = JOB .. id
local stored = redis.call('HMGET', key, 's', 'i')
local f = standing(stored[1])
if not f then return -1 end
local what = identity(stored[2])
if f.state == 'active' then
  if not has_flag(f.flags, 'c') then
    f.flags = with_flag(f.flags, 'c')
    write_even_when_full()
    redis.call('HSET', key, 's', stand(f))
    emit('cancelling', id, 'n', what.name)
    flush_events()
  end
  return 'active'
end
if f.state ~= 'waiting' and f.state ~= 'delayed' and f.state ~= 'blocked' then return -2 end
take_out(id, f, what)
to_finished(id, key, server_ms(), f, stored[2], 'cancelled', 'e', CANCELLED)
emit('cancelled', id, 'n', what.name)
flush_events()
return 'cancelled'
