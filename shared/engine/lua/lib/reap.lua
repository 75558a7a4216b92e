-- Take jobs from workers that stopped renewing their lease.
--
-- A stall costs no attempt, but is counted: a job whose worker dies under it again and again without any progress in
-- between is failed with that reason (a "poison" job), or it would kill workers for ever.

local REAP = 30 -- a bound on how long the server is held
-- A worker that reaches the server calls here more often, milliseconds: each 5 s when idle, each 10 s when busy.
local OUTAGE = 15000
-- How soon after an outage a worker that lives has called, milliseconds: the patience for a reply, and a margin.
local GRACE = 6000
local STALLED = '{"type":"Stalled","code":"stalled","retryable":true,"message":"The worker died or froze while it '
  .. 'ran this job (its lease ran out)."}'

local function reap_job(id, key, now, f, i, default_max_stalls)
  local what = identity(i)
  local stalls = tonumber(f.t) + 1
  local max_stalls = tonumber(what.ms ~= '' and what.ms or default_max_stalls)
  keep_attempt(key, now, f, 'stalled', STALLED)
  if what.group ~= '' then end_group_run(what.group) end
  -- the new lease number fences the old worker off
  f.l, f.t = tonumber(f.l) + 1, stalls
  if has_flag(f.flags, 'c') then
    to_finished(id, key, now, f, i, 'cancelled', 'e', CANCELLED)
    emit('cancelled', id, 'n', what.name)
  elseif stalls > max_stalls then
    local reason = string.format('{"type":"Stalled","code":"max-stalls","retryable":false,"message":"The worker '
      .. 'died or froze %d times while it ran this job, without progress in between; %d are allowed."}',
      stalls, max_stalls)
    to_finished(id, key, now, f, i, 'failed', 'e', reason)
    emit('failed', id, 'n', what.name, 'a', f.a, 'x', reason)
  else
    f.state, f.a = 'waiting', math.max(0, tonumber(f.a) - 1)
    redis.call('HSET', key, 's', stand(f), 'e', STALLED)
    to_waiting(id, what.priority, 0, what.group)
    emit('stalled', id, 'n', what.name, 't', stalls)
  end
end

-- When nobody called for long, it was the server that was away, and not every worker that died. Their leases have run
-- out all the same, and whoever comes first would take the jobs that the others run, at each outage anew.
local function forgive_outage(now)
  local seen = redis.call('HGET', META, 'seen')
  local silence = seen and now - tonumber(seen)
  if silence and silence < 1000 then return end
  if silence and silence > OUTAGE then
    local late = redis.call('ZRANGEBYSCORE', ACTIVE, '-inf', now + GRACE)
    for first = 1, #late, 1000 do
      local last = math.min(first + 999, #late)
      redis.call('ZREM', ACTIVE, unpack(late, first, last))
      local deadlines = {}
      for n = first, last do
        deadlines[#deadlines + 1] = now + GRACE
        deadlines[#deadlines + 1] = late[n]
      end
      redis.call('ZADD', ACTIVE, unpack(deadlines))
    end
  end
  -- It comes first: see write_even_when_full.
  redis.call('HDEL', META, 'seen')
  redis.call('HSET', META, 'seen', now)
end

local function reap(now, default_max_stalls)
  forgive_outage(now)
  local ids = redis.call('ZRANGEBYSCORE', ACTIVE, '-inf', now, 'LIMIT', 0, REAP)
  for n = 1, #ids do
    local id = ids[n]
    local key = JOB .. id
    redis.call('ZREM', ACTIVE, id)
    local stored = redis.call('HMGET', key, 's', 'i')
    local f = standing(stored[1])
    if f and f.state == 'active' then reap_job(id, key, now, f, stored[2], default_max_stalls) end
  end
  return ids
end
