-- Ends of runs, and how long finished jobs are kept.

local DEDUPE = P .. 'dd:'

local CANCELLED = '{"type":"JobCancelled","code":"cancelled","retryable":false,"message":"The job was cancelled."}'

local function attempt_line(f, now, outcome, error)
  return string.format('{"attempt":%s,"started_ms":%s,"ended_ms":%s,"worker":%s,"outcome":"%s","error":%s}',
    f.a, f.sa, now, f.w ~= '-' and cjson.encode(f.w) or 'null', outcome, (error and error ~= '') and error or 'null')
end

-- Add the run that just ended to the job's attempts; only the last ones are kept, since each may hold a traceback.
local function keep_attempt(key, now, f, outcome, error)
  local lines = {}
  for line in string.gmatch(redis.call('HGET', key, 'at') or '', '[^\n]+') do
    lines[#lines + 1] = line
  end
  lines[#lines + 1] = attempt_line(f, now, outcome, error)
  local first = math.max(1, #lines - ATTEMPTS_KEPT + 1)
  redis.call('HSET', key, 'at', table.concat(lines, '\n', first))
end

-- Tell the jobs that run after this one how it ended. They may be in other queues, which this script may not touch.
local function tell_dependents(id, key, state, data)
  for policy, target in string.gmatch(redis.call('HGET', key, 'fx') or '', '(%S+) ([^\n]+)') do
    redis.call('XADD', OUTBOX, '*', 't', 'dep', 'to', target, 'from', id, 's', state, 'p', policy, 'x', data)
  end
end

local function free_dedupe_key(id, dedupe, window_counts)
  local mode, window, name = string.match(dedupe, '^(%S+) (%S+) (.*)$')
  if mode == 'throttle' or redis.call('GET', DEDUPE .. name) ~= id then return end
  if mode == 'reject' and window_counts and window ~= '0' then
    redis.call('PEXPIRE', DEDUPE .. name, window)
  else
    redis.call('DEL', DEDUPE .. name)
  end
end

-- What the end of a job means for others; ``what`` is its identity.
local function settle(id, key, what, state, data, now)
  if what.keep ~= '' and state ~= 'removed' then redis.call('ZADD', EXPIRES, now + tonumber(what.keep), id) end
  if what.dedupe ~= '' then free_dedupe_key(id, what.dedupe, state ~= 'removed') end
  if what.flow ~= '' then tell_dependents(id, key, state, data) end
end

local function size_of(key)
  return redis.call('HSTRLEN', key, 'd') + redis.call('HSTRLEN', key, 'r') + redis.call('HSTRLEN', key, 'e')
end

-- Take a finished job out, as it is about to run again.
local function leave_finished(id, key, state)
  if redis.call('HEXISTS', META, 'by:' .. state) == 1 then
    redis.call('HINCRBY', META, 'by:' .. state, -size_of(key))
  end
  redis.call('ZREM', P .. state, id)
  redis.call('ZREM', EXPIRES, id)
end

-- Put a job into a finished state. ``f``: how it stood; ``i``: what it is.
local function to_finished(id, key, now, f, i, state, field, data)
  f.state, f.at, f.rq = state, now, '-'
  if data == '' then
    redis.call('HSET', key, 's', stand(f))
  else
    redis.call('HSET', key, 's', stand(f), field, data)
  end
  redis.call('ZADD', P .. state, now, id)
  if redis.call('HEXISTS', META, 'by:' .. state) == 1 then
    -- not from the data: without any, the error of an earlier attempt stays
    redis.call('HINCRBY', META, 'by:' .. state, size_of(key))
  end
  if not is_plain(i) then settle(id, key, identity(i), state, data, now) end
end

-- Delete finished jobs that were taken from their set already.
local function delete_jobs(ids, state)
  if #ids == 0 then return end
  if redis.call('HEXISTS', META, 'by:' .. state) == 1 then
    local size = 0
    for n = 1, #ids do size = size + size_of(JOB .. ids[n]) end
    redis.call('HINCRBY', META, 'by:' .. state, -size)
  end
  local keys = {}
  for n = 1, #ids do
    keys[#keys + 1] = JOB .. ids[n]
    keys[#keys + 1] = LOG .. ids[n]
  end
  redis.call('UNLINK', unpack(keys))
  if redis.call('EXISTS', EXPIRES) == 1 then redis.call('ZREM', EXPIRES, unpack(ids)) end
end

local sweep_most = 100 -- jobs deleted at most by one call and set: a bound on how long the server is held

local function pop_oldest(state, count)
  local popped = redis.call('ZPOPMIN', P .. state, count)
  local ids = {}
  for n = 1, #popped, 2 do ids[#ids + 1] = popped[n] end
  delete_jobs(ids, state)
end

-- The bytes of what is kept are counted from when a bound is set.
local function trim_bytes(state, bytes)
  local kept = tonumber(redis.call('HGET', META, 'by:' .. state))
  if not kept then
    kept = 0
    local ids = redis.call('ZRANGE', P .. state, 0, -1)
    for n = 1, #ids do kept = kept + size_of(JOB .. ids[n]) end
    write_even_when_full()
    redis.call('HSET', META, 'by:' .. state, kept)
  end
  local swept = 0
  while kept > bytes and swept < sweep_most and redis.call('EXISTS', P .. state) == 1 do
    pop_oldest(state, 1)
    swept = swept + 1
    kept = tonumber(redis.call('HGET', META, 'by:' .. state))
  end
end

local function trim(state, age, count, bytes, now)
  local set = P .. state
  local over = redis.call('ZCARD', set) - count
  if over > 0 then pop_oldest(state, math.min(over, sweep_most)) end
  local oldest = redis.call('ZRANGE', set, 0, 0, 'WITHSCORES')
  if oldest[2] and tonumber(oldest[2]) <= now - age then
    local old = redis.call('ZRANGEBYSCORE', set, '-inf', now - age, 'LIMIT', 0, sweep_most)
    redis.call('ZREM', set, unpack(old))
    delete_jobs(old, state)
  end
  if bytes ~= '' then trim_bytes(state, tonumber(bytes)) end
end

-- Jobs that asked to be kept for less time than the queue keeps its own.
local function sweep_expired(now)
  local ids = redis.call('ZRANGEBYSCORE', EXPIRES, '-inf', now, 'LIMIT', 0, math.ceil(sweep_most / 2))
  for n = 1, #ids do
    local f = standing(redis.call('HGET', JOB .. ids[n], 's'))
    if f and (f.state == 'completed' or f.state == 'failed' or f.state == 'cancelled') then
      redis.call('ZREM', P .. f.state, ids[n])
      delete_jobs({ids[n]}, f.state)
    end
  end
  -- those as well that run again: their next end enters them anew
  if #ids > 0 then
    redis.call('ZREM', EXPIRES, unpack(ids))
  end
end

-- Take a job out that has not begun.
local function take_out(id, f, what)
  if f.state == 'waiting' then
    leave_waiting(id, what.group)
  else
    redis.call('ZREM', P .. f.state, id)
  end
end

-- Delete a job that is not running, with what that means for others.
local function forget(id, key, f, i)
  local what = identity(i)
  take_out(id, f, what)
  if f.state == 'waiting' or f.state == 'delayed' or f.state == 'blocked' then
    settle(id, key, what, 'removed', '', 0)
    redis.call('UNLINK', key, LOG .. id)
  else
    if what.dedupe ~= '' then free_dedupe_key(id, what.dedupe, false) end
    delete_jobs({id}, f.state)
  end
  emit('removed', id, 'n', what.name)
end
