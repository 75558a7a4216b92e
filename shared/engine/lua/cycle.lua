-- The hot path: commit finished runs, tidy up, lease the next jobs, all in one step.
--
-- KEYS[1]  meta
-- ARGV     worker, request id, repeat (1: the reply of this very request was lost), jobs wanted, lease in ms,
--          default most stalls, completed: age in ms, count; failed and cancelled: age in ms, count;
--          number of finishes, then 6 values a finish: id, token, outcome, delay in ms, data, body
-- Returns  {ms until something may become due (-1: nothing), statuses, jobs}
--          status: 1 committed, 0 committed before, -1 lease lost, -2 no such job
--          job: {id, token, name, body, attempt, stalls, priority, added at, options}

-- include: lib/job.lua
-- include: lib/waiting.lua
-- include: lib/finish.lua
-- include: lib/reap.lua

local now = server_ms()
local worker, request, again = ARGV[1], ARGV[2], ARGV[3] == '1'
-- Bounded, since Lua's stack bounds what unpack may give, and an error after the pop would lose the jobs.
local want = math.min(tonumber(ARGV[4]), 1000)
local lease_ms, default_max_stalls = tonumber(ARGV[5]), ARGV[6]
local finish_count = tonumber(ARGV[11])
local retry_due -- when the first job that this call sends back with a delay is due

local CANCELLED = '{"type":"JobCancelled","code":"cancelled","retryable":false,"message":"The job was cancelled."}'

local function end_run(id, key, run, outcome, delay, data, body)
  local cancelled = run.c and outcome ~= 'complete' and outcome ~= 'fail'
  if outcome == 'complete' then
    to_finished(id, key, now, 'completed', 'r', data, run.k)
    if run.l ~= '1' or run.cf then
      redis.call('HDEL', key, 'e', 'ck', 'cf') -- only a further attempt would need them
    end
    emit('completed', id, 'n', run.n, 'a', run.a)
  elseif outcome == 'fail' then
    keep_attempt(key, now, run, 'fail', data)
    to_finished(id, key, now, 'failed', 'e', data, run.k)
    emit('failed', id, 'n', run.n, 'a', run.a, 'x', brief(data))
  elseif outcome == 'cancel' or cancelled then
    keep_attempt(key, now, run, 'cancel', data)
    to_finished(id, key, now, 'cancelled', 'e', CANCELLED, run.k)
    emit('cancelled', id, 'n', run.n)
  elseif outcome == 'release' then
    redis.call('HSET', key, 's', 'waiting', 'a', run.a - 1, 'lf', run.l)
    to_waiting(id, run.p, 0)
    emit('waiting', id, 'n', run.n)
  else -- retry
    keep_attempt(key, now, run, 'retry', data)
    if body ~= '' then redis.call('HSET', key, 'd', body) end
    if delay > 0 then
      local due = now + delay
      redis.call('HSET', key, 's', 'delayed', 'da', due, 'e', data, 't', 0, 'lf', run.l)
      redis.call('ZADD', DELAYED, due, id)
      if not retry_due or due < retry_due then retry_due = due end
      emit('delayed', id, 'n', run.n, 'due', due, 'x', brief(data))
    else
      redis.call('HSET', key, 's', 'waiting', 'e', data, 't', 0, 'lf', run.l)
      to_waiting(id, run.p, next_place(1))
      emit('waiting', id, 'n', run.n, 'x', brief(data))
    end
  end
end

local function finish(o)
  local id, token = ARGV[o], ARGV[o + 1]
  local key = JOB .. id
  local f = redis.call('HMGET', key, 's', 'l', 'n', 'p', 'a', 'sa', 'w', 'c', 'k', 'lf', 'cf')
  if not f[1] then return -2 end
  -- A job that was sent back may have been leased again before its finish is repeated, by the lost call itself.
  if f[10] == token then return 0 end
  if f[2] ~= token then return -1 end
  if f[1] ~= 'active' then return 0 end
  redis.call('ZREM', ACTIVE, id)
  end_run(id, key, {l = token, n = f[3], p = f[4], a = f[5], sa = f[6], w = f[7], c = f[8], k = f[9], cf = f[11]},
    ARGV[o + 2], tonumber(ARGV[o + 3]), ARGV[o + 4], ARGV[o + 5])
  return 1
end

local function promote_due()
  local due = redis.call('ZRANGEBYSCORE', DELAYED, '-inf', now, 'LIMIT', 0, 100)
  if #due == 0 then return end
  -- Removed first: a server that is out of memory refuses a script whose first write could need some.
  redis.call('ZREM', DELAYED, unpack(due))
  local place = next_place(#due)
  for i = 1, #due do
    local key = JOB .. due[i]
    local f = redis.call('HMGET', key, 'p', 'n')
    if f[2] then
      redis.call('HSET', key, 's', 'waiting')
      to_waiting(due[i], f[1], place + i - 1)
      emit('waiting', due[i], 'n', f[2])
    end
  end
end

local function leased(id, f)
  return {id, f[1], f[2], f[3], f[4], f[5] or '0', f[6], f[7], f[8] or ''}
end

-- Jobs that a lost reply of this request leased: they are this worker's still.
local function leased_before(jobs)
  local ids = redis.call('ZRANGE', ACTIVE, 0, -1)
  for i = 1, #ids do
    local f = redis.call('HMGET', JOB .. ids[i], 'l', 'n', 'd', 'a', 't', 'p', 'ca', 'o', 'w', 'rq')
    if f[9] == worker and f[10] == request then
      jobs[#jobs + 1] = leased(ids[i], f)
    end
  end
end

local function lease(jobs)
  local popped = redis.call('ZPOPMIN', WAITING, want - #jobs)
  local deadlines = {}
  for i = 1, #popped, 2 do
    local id = popped[i]
    local key = JOB .. id
    local f = redis.call('HMGET', key, 'l', 'n', 'd', 'a', 't', 'p', 'ca', 'o')
    -- a job without a record cannot be: a script adds and removes both. It would be a server that lost writes.
    if f[2] then
      f[1] = tostring(tonumber(f[1] or '0') + 1)
      f[4] = tostring(tonumber(f[4] or '0') + 1)
      redis.call('HSET', key, 's', 'active', 'l', f[1], 'a', f[4], 'sa', now, 'w', worker, 'rq', request)
      deadlines[#deadlines + 1] = now + lease_ms
      deadlines[#deadlines + 1] = id
      emit('active', id, 'n', f[2], 'a', f[4])
      jobs[#jobs + 1] = leased(id, f)
    end
  end
  if #deadlines > 0 then
    redis.call('ZADD', ACTIVE, unpack(deadlines))
  end
end

local statuses = {}
for i = 1, finish_count do
  statuses[i] = finish(12 + (i - 1) * 6)
end
reap(now, default_max_stalls)
promote_due()

local jobs = {}
if again then leased_before(jobs) end
if not is_paused() then
  if want > #jobs then lease(jobs) end
  if redis.call('EXISTS', WAITING) == 1 then arm_wake() end
end

if finish_count > 0 or #jobs == 0 then
  -- also when there is nothing to do, or what ages in a quiet queue would stay for ever
  trim(P .. 'completed', tonumber(ARGV[7]), tonumber(ARGV[8]), now)
  trim(P .. 'failed', tonumber(ARGV[9]), tonumber(ARGV[10]), now)
  trim(P .. 'cancelled', tonumber(ARGV[9]), tonumber(ARGV[10]), now)
  sweep_expired(now)
end

local next_ms = -1
local due = redis.call('ZRANGE', DELAYED, 0, 0, 'WITHSCORES')
if due[2] then
  next_ms = math.max(0, tonumber(due[2]) - now)
  -- Whoever has a thread to spare keeps the timer; a caller that is full or stopping hands it to an idle one.
  if retry_due and retry_due <= tonumber(due[2]) and #jobs >= want and not is_paused() then arm_wake() end
end
local deadline = redis.call('ZRANGE', ACTIVE, 0, 0, 'WITHSCORES')
if deadline[2] then
  local left = math.max(0, tonumber(deadline[2]) - now + 1)
  if next_ms < 0 or left < next_ms then next_ms = left end
end
return {next_ms, statuses, jobs}
