-- Add jobs to a queue, all in one step.
--
-- KEYS[1]  meta
-- ARGV     number of jobs, then 9 values a job:
--          id, name, body, priority, delay in ms, run-at in ms ('' for none), options as JSON ('' for none),
--          most stalls ('' for the default), keep in ms ('' for the queue's retention)
-- Returns  for each job 1, or 0 when a job of that id was there already (a repeat after a lost reply)

-- include: lib/job.lua
-- include: lib/waiting.lua

local now = server_ms()
local count = tonumber(ARGV[1])
local place = next_place(count)
local added = {}
local waiting = {}
local earliest

for i = 1, count do
  local o = 2 + (i - 1) * 9
  local id = ARGV[o]
  local key = JOB .. id
  if redis.call('EXISTS', key) == 1 then
    added[i] = 0
  else
    local due = ARGV[o + 5] ~= '' and tonumber(ARGV[o + 5]) or now + tonumber(ARGV[o + 4])
    local fields = {'n', ARGV[o + 1], 'd', ARGV[o + 2], 'p', ARGV[o + 3], 'ca', now}
    local n = #fields
    if ARGV[o + 6] ~= '' then fields[n + 1] = 'o'; fields[n + 2] = ARGV[o + 6]; n = n + 2 end
    if ARGV[o + 7] ~= '' then fields[n + 1] = 'ms'; fields[n + 2] = ARGV[o + 7]; n = n + 2 end
    if ARGV[o + 8] ~= '' then fields[n + 1] = 'k'; fields[n + 2] = ARGV[o + 8]; n = n + 2 end
    if due > now then
      redis.call('HSET', key, 's', 'delayed', 'da', due, unpack(fields))
      redis.call('ZADD', DELAYED, due, id)
      if not earliest or due < earliest then earliest = due end
      emit('added', id, 'n', ARGV[o + 1], 'due', due)
    else
      redis.call('HSET', key, 's', 'waiting', unpack(fields))
      waiting[#waiting + 1] = score_of(ARGV[o + 3], place + i - 1)
      waiting[#waiting + 1] = id
      emit('added', id, 'n', ARGV[o + 1])
    end
    added[i] = 1
  end
end

-- in slices: Lua's stack bounds what unpack may give
for i = 1, #waiting, 2000 do
  redis.call('ZADD', WAITING, unpack(waiting, i, math.min(i + 1999, #waiting)))
end
if #waiting > 0 and not is_paused() then
  arm_wake()
elseif earliest then
  -- Idle workers sleep until the next due job: one that is due before it must wake them to look again.
  local first = redis.call('ZRANGE', DELAYED, 0, 0, 'WITHSCORES')
  if tonumber(first[2]) >= earliest then arm_wake() end
end
return added
