-- Ends of runs, and how long finished jobs are kept.

local function attempt_line(fields, now, outcome, error)
  return string.format('{"attempt":%s,"started_ms":%s,"ended_ms":%s,"worker":%s,"outcome":"%s","error":%s}',
    fields.a or '0', fields.sa or 'null', now, fields.w and cjson.encode(fields.w) or 'null', outcome,
    (error and error ~= '') and error or 'null')
end

-- Add the run that just ended to the job's attempts; only the last ones are kept, since each may hold a traceback.
local function keep_attempt(key, now, fields, outcome, error)
  local lines = {}
  for line in string.gmatch(redis.call('HGET', key, 'at') or '', '[^\n]+') do
    lines[#lines + 1] = line
  end
  lines[#lines + 1] = attempt_line(fields, now, outcome, error)
  local first = math.max(1, #lines - ATTEMPTS_KEPT + 1)
  redis.call('HSET', key, 'at', table.concat(lines, '\n', first))
end

-- Put a job into a finished state.
local function to_finished(id, key, now, state, field, data, keep)
  if data == '' then
    redis.call('HSET', key, 's', state, 'fa', now)
  else
    redis.call('HSET', key, 's', state, 'fa', now, field, data)
  end
  redis.call('ZADD', P .. state, now, id)
  if keep then
    redis.call('ZADD', EXPIRES, now + keep, id)
  end
end

local function delete_jobs(ids)
  local keys = {}
  for i = 1, #ids do
    keys[#keys + 1] = JOB .. ids[i]
    keys[#keys + 1] = LOG .. ids[i]
  end
  redis.call('UNLINK', unpack(keys))
  redis.call('ZREM', EXPIRES, unpack(ids))
end

local SWEEP = 100 -- jobs deleted at most by one call and set: a bound on how long the server is held

local function trim(set, age, count, now)
  local over = redis.call('ZCARD', set) - count
  if over > 0 then
    local ids = redis.call('ZRANGE', set, 0, math.min(over, SWEEP) - 1)
    redis.call('ZREMRANGEBYRANK', set, 0, #ids - 1)
    delete_jobs(ids)
  end
  local old = redis.call('ZRANGEBYSCORE', set, '-inf', now - age, 'LIMIT', 0, SWEEP)
  if #old > 0 then
    redis.call('ZREM', set, unpack(old))
    delete_jobs(old)
  end
end

-- Jobs that asked to be kept for less time than the queue keeps its own.
local function sweep_expired(now)
  local ids = redis.call('ZRANGEBYSCORE', EXPIRES, '-inf', now, 'LIMIT', 0, SWEEP)
  for i = 1, #ids do
    local state = redis.call('HGET', JOB .. ids[i], 's')
    if state == 'completed' or state == 'failed' or state == 'cancelled' then
      redis.call('ZREM', P .. state, ids[i])
      delete_jobs({ids[i]})
    end
  end
  -- those as well that run again: their next end enters them anew
  if #ids > 0 then
    redis.call('ZREM', EXPIRES, unpack(ids))
  end
end
