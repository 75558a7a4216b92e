-- Add jobs that come from the outbox of a queue, each step once.
--
-- KEYS[1]  meta
-- ARGV     queue that they come from, number of jobs, then 9 values a job: id of the step, and the 8 of lib/adding.lua
-- Returns  1

-- include: lib/job.lua
-- include: lib/waiting.lua
-- include: lib/finish.lua
-- include: lib/adding.lua
-- include: lib/relayed.lua

local now = server_ms()
local count = tonumber(ARGV[2])
local place = next_place(count)
for n = 1, count do
  local o = 3 + (n - 1) * 9
  if is_new_step(ARGV[1], ARGV[o]) then
    add_job(now, place + n - 1, ARGV[o + 1], ARGV[o + 2], ARGV[o + 3], ARGV[o + 4], ARGV[o + 5], ARGV[o + 6],
      ARGV[o + 7], ARGV[o + 8])
  end
end
end_adding()
return 1
