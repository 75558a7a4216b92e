-- Add jobs to a queue, all in one step.
--
-- KEYS[1]  meta
-- ARGV     number of jobs, longest queue of the contract ('' for no bound), then 8 values a job, see lib/adding.lua
-- Returns  for each job its status, or {status, id} when another job stands for it; -1 alone: the queue is full
--          status: 1 new, 0 there before, 2 duplicate of, 3 replaced, -1 idempotency key of another request

-- include: lib/job.lua
-- include: lib/waiting.lua
-- include: lib/limits.lua
-- include: lib/finish.lua
-- include: lib/adding.lua

local now = server_ms()
local count = tonumber(ARGV[1])

local own = redis.call('HGET', META, 'lim')
local most = ARGV[2]
if own then
  local _, _, _, _, length = string.match(own, FIVE)
  most = chosen(length, most)
end
if most ~= '' then
  local unfinished = count_waiting() + redis.call('ZCARD', DELAYED) + redis.call('ZCARD', BLOCKED)
  if unfinished + count > tonumber(most) then return -1 end
end

local place = next_place(count)
local results = {}
for n = 1, count do
  local o = 3 + (n - 1) * 8
  local status, holder = add_job(now, place + n - 1, ARGV[o], ARGV[o + 1], ARGV[o + 2], ARGV[o + 3], ARGV[o + 4],
    ARGV[o + 5], ARGV[o + 6], ARGV[o + 7])
  results[n] = holder and {status, holder} or status
end
end_adding()
return results
