-- Take jobs from workers that stopped renewing their lease.
--
-- A stall costs no attempt, but is counted: a job whose worker dies under it again and again without any progress in
-- between is failed with that reason (a "poison" job), or it would kill workers for ever.

local REAP = 100
-- A worker that reaches the server calls here more often, milliseconds: each 5 s when idle, each 10 s when busy.
local OUTAGE = 15000
-- How soon after an outage a worker that lives has called, milliseconds: the patience for a reply, and a margin.
local GRACE = 6000

-- When nobody called for long, it was the server that was away, and not every worker that died. Their leases have run
-- out all the same, and whoever comes first would take the jobs that the others run, at each outage anew.
local function forgive_outage(now)
  local seen = redis.call('HGET', META, 'seen')
  local silence = seen and now - tonumber(seen)
  if silence and silence < 1000 then return end
  if silence and silence > OUTAGE then
    local late = redis.call('ZRANGEBYSCORE', ACTIVE, '-inf', now + GRACE)
    for i = 1, #late do
      redis.call('ZREM', ACTIVE, late[i])
      redis.call('ZADD', ACTIVE, now + GRACE, late[i])
    end
  end
  -- Removed first: a server that is out of memory refuses a script whose first write could need some.
  redis.call('HDEL', META, 'seen')
  redis.call('HSET', META, 'seen', now)
end

local function reap(now, default_max_stalls)
  forgive_outage(now)
  local ids = redis.call('ZRANGEBYSCORE', ACTIVE, '-inf', now, 'LIMIT', 0, REAP)
  for i = 1, #ids do
    local id = ids[i]
    local key = JOB .. id
    redis.call('ZREM', ACTIVE, id)
    local f = redis.call('HMGET', key, 's', 'a', 'sa', 'w', 't', 'ms', 'c', 'p', 'k', 'n')
    if f[1] == 'active' then
      local run = {a = f[2], sa = f[3], w = f[4]}
      local stalls = tonumber(f[5] or '0') + 1
      local max_stalls = tonumber(f[6] or default_max_stalls)
      local error = '{"type":"Stalled","code":"stalled","retryable":true,"message":"The worker died or froze while it '
        .. 'ran this job (its lease ran out)."}'
      -- the new lease number fences the old worker off
      redis.call('HINCRBY', key, 'l', 1)
      redis.call('HSET', key, 't', stalls)
      keep_attempt(key, now, run, 'stalled', error)
      if f[7] then
        to_finished(id, key, now, 'cancelled', 'e',
          '{"type":"JobCancelled","code":"cancelled","retryable":false,"message":"The job was cancelled."}', f[9])
        emit('cancelled', id, 'n', f[10])
      elseif stalls > max_stalls then
        local reason = string.format('{"type":"Stalled","code":"max-stalls","retryable":false,"message":"The worker '
          .. 'died or froze %d times while it ran this job, without progress in between; %d are allowed."}',
          stalls, max_stalls)
        to_finished(id, key, now, 'failed', 'e', reason, f[9])
        emit('failed', id, 'n', f[10], 'a', f[2], 'x', reason)
      else
        redis.call('HSET', key, 's', 'waiting', 'e', error, 'a', math.max(0, tonumber(f[2] or '1') - 1))
        to_waiting(id, f[8], 0)
        emit('stalled', id, 'n', f[10], 't', stalls)
      end
    end
  end
  return ids
end
