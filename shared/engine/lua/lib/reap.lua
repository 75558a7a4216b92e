-- Take jobs from workers that stopped renewing their lease.
--
-- A stall costs no attempt, but is counted: a job whose worker dies under it again and again without any progress in
-- between is failed with that reason (a "poison" job), or it would kill workers for ever.

local REAP = 100
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

local function reap(now, default_max_stalls)
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
