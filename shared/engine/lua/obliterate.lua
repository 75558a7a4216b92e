-- Remove all that is stored of a paused queue that holds no waiting job any more, a part at a time.
--
-- KEYS[1]  meta
-- ARGV     force (1: also with jobs that run), most jobs that are removed
-- Returns  1 done, 0 there is more (steps in the outbox that are to be taken first, perhaps), -2 jobs run

-- include: lib/job.lua
-- include: lib/waiting.lua
-- include: lib/finish.lua

local FINISHED = {completed = true, failed = true, cancelled = true}

local most = tonumber(ARGV[2])
if ARGV[1] ~= '1' and redis.call('EXISTS', ACTIVE) == 1 then return -2 end
for _, set in ipairs({'active', 'waiting', 'grouped', 'delayed', 'blocked', 'completed', 'failed', 'cancelled'}) do
  while redis.call('EXISTS', P .. set) == 1 do
    if most < 1 then return 0 end
    local popped = redis.call('ZPOPMIN', P .. set, math.min(most, 100))
    for n = 1, #popped, 2 do
      local identity_text = redis.call('HGET', JOB .. popped[n], 'i')
      if identity_text then
        local what = identity(identity_text)
        if what.flow ~= '' and not FINISHED[set] then tell_dependents(popped[n], JOB .. popped[n], 'removed', '') end
        redis.call('UNLINK', GROUP .. what.group, P .. 'limiter:' .. what.group)
        local _, _, dedupe_key = string.match(what.dedupe, '^(%S+) (%S+) (.*)$')
        if dedupe_key then redis.call('UNLINK', P .. 'dd:' .. dedupe_key) end
      end
      redis.call('UNLINK', JOB .. popped[n], LOG .. popped[n])
      most = most - 1
    end
  end
end
-- Of runs that ended since the queue was paused, too: what they leave behind for other queues is not this queue's.
if redis.call('XLEN', OUTBOX) > 0 then return 0 end
redis.call('UNLINK', EXPIRES, LINE, PARKED, GROUPED, TURNS, P .. 'running', P .. 'limiter', OUTBOX, EVENTS, WAKE, META)
return 1
