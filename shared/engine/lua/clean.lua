-- Remove jobs of one state, the oldest first, as many as the server may be held for.
--
-- KEYS[1]  meta
-- ARGV     state, time before which it was added or finished ('' for any), most, first looked at
-- Returns  {removed, looked at}; fewer looked at than most: there are no more

-- include: lib/job.lua
-- include: lib/waiting.lua
-- include: lib/finish.lua

local state, before, most = ARGV[1], ARGV[2], tonumber(ARGV[3])
local set = P .. state
if state == 'waiting' and redis.call('EXISTS', WAITING) == 0 then set = GROUPED end

-- The scores of waiting jobs say nothing of their age, and those of delayed ones when they are due.
local by_score = state == 'completed' or state == 'failed' or state == 'cancelled' or state == 'blocked'
local ids
if before ~= '' and by_score then
  ids = redis.call('ZRANGEBYSCORE', set, '-inf', '(' .. before, 'LIMIT', 0, most)
else
  ids = redis.call('ZRANGE', set, ARGV[4], tonumber(ARGV[4]) + most - 1)
end
local removed = 0
for n = 1, #ids do
  local key = JOB .. ids[n]
  local stored = redis.call('HMGET', key, 's', 'i')
  local f = standing(stored[1])
  if not f then
    redis.call('ZREM', set, ids[n])
  elseif by_score or before == '' or tonumber(identity(stored[2]).added) < tonumber(before) then
    forget(ids[n], key, f, stored[2])
    removed = removed + 1
  end
end
flush_events()
return {removed, #ids}
