-- Store a flow's plan: its record, and the steps that bring its jobs to their queues.
--
-- KEYS[1]  meta
-- ARGV     id, record as JSON, ms that the record is kept, number of jobs, then 9 values a job: queue, and the 8 of
--          lib/adding.lua
-- Returns  1, 0 when it was there already

-- include: lib/job.lua

local key = P .. 'flow:' .. ARGV[1]
if redis.call('EXISTS', key) == 1 then return 0 end
redis.call('HSET', key, 'j', ARGV[2], 'ca', server_ms())
redis.call('PEXPIRE', key, ARGV[3])
for n = 1, tonumber(ARGV[4]) do
  local o = 5 + (n - 1) * 9
  redis.call('XADD', OUTBOX, '*', 't', 'add', 'q', ARGV[o], '1', ARGV[o + 1], '2', ARGV[o + 2], '3', ARGV[o + 3],
    '4', ARGV[o + 4], '5', ARGV[o + 5], '6', ARGV[o + 6], '7', ARGV[o + 7], '8', ARGV[o + 8])
end
-- Should the caller die before it takes them, an idle worker is there to take them.
arm_wake()
return 1
