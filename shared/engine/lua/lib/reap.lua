-- Take jobs from workers that stopped renewing their lease.
--
-- A stall costs no attempt, but is counted: a job whose worker dies under it again and again without any progress in
-- between is failed with that reason (a "poison" job), or it would kill workers for ever.

local REAP = 100

local function reap(now, default_max_stalls)
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
