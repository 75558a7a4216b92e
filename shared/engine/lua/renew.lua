-- Extend leases.
--
-- KEYS[1]  meta
-- ARGV     lease in ms, then 2 values a lease: id, token
-- Returns  for each 1 held, 2 held and somebody asked to cancel it, -1 lost

-- include: lib/job.lua

local deadline = server_ms() + tonumber(ARGV[1])
local statuses = {}
for n = 2, #ARGV, 2 do
  local f = standing(redis.call('HGET', JOB .. ARGV[n], 's'))
  local status = -1
  if f and f.state == 'active' and f.l == ARGV[n + 1] then
    -- Removed first: a server that is out of memory refuses a script whose first write could need some, and every
    -- running job would lose its lease.
    redis.call('ZREM', ACTIVE, ARGV[n])
    redis.call('ZADD', ACTIVE, deadline, ARGV[n])
    status = has_flag(f.flags, 'c') and 2 or 1
  end
  statuses[#statuses + 1] = status
end
return statuses
