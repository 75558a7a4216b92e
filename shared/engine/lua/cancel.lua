-- Cancel a job. A running one is asked to stop, and stays active until its worker says how it ended.
--
-- KEYS[1]  meta
-- ARGV     id
-- Returns  the state after, -1 no such job, -2 finished already

-- include: lib/job.lua
-- include: lib/finish.lua

local id = ARGV[1]
local key = JOB .. id
local f = redis.call('HMGET', key, 's', 'n', 'k', 'c')
if not f[1] then return -1 end
if f[1] == 'active' then
  if not f[4] then
    redis.call('HSET', key, 'c', 1)
    emit('cancelling', id, 'n', f[2])
  end
  return 'active'
end
if f[1] ~= 'waiting' and f[1] ~= 'delayed' and f[1] ~= 'blocked' then return -2 end
redis.call('ZREM', P .. f[1], id)
to_finished(id, key, server_ms(), 'cancelled', 'e',
  '{"type":"JobCancelled","code":"cancelled","retryable":false,"message":"The job was cancelled."}', f[3])
emit('cancelled', id, 'n', f[2])
return 'cancelled'
