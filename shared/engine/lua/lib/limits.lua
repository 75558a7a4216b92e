-- Limits over the whole cluster.
--
-- A rate is the generic cell rate algorithm (ITU-T I.371, annex A): one number, the theoretical time of the next start,
-- moves on by an interval with each start; a start is allowed when that time is no further ahead than the burst.
--
-- As text: 'interval slack|jobs at once|interval slack of groups|jobs at once of groups|longest queue', interval and slack in
-- microseconds, with slack = (burst - 1) * interval. Of what an operator set, an empty part stands for "as the contract says" and
-- '-' for "none"; of a contract, an empty one for "none".

local LIMITER = P .. 'limiter'
local RUNNING = P .. 'running' -- hash: active jobs of each group

local FIVE = '^([^|]*)|([^|]*)|([^|]*)|([^|]*)|([^|]*)$'

local function chosen(own, given)
  if own == '-' then return '' end
  return (own and own ~= '') and own or given
end

-- Give the contract's limits with an operator's changes.
local function effective_limits(contract, own)
  if not own or own == '' then return contract end
  local a, b, c, d, e = string.match(contract, FIVE)
  local v, w, x, y, z = string.match(own, FIVE)
  return table.concat({chosen(v, a), chosen(w, b), chosen(x, c), chosen(y, d), chosen(z, e)}, '|')
end

-- How many starts a rate allows now, and the time that it counts from; both in microseconds.
local function starts_allowed(key, interval, slack, now_us)
  local base = now_us
  local stored = redis.call('GET', key)
  if stored then base = math.max(base, tonumber(stored)) end
  -- The clock was set back: what stands further ahead than starts could have moved it would hold the queue for as long.
  if base > now_us + slack + interval + 1000000 then
    base = now_us + slack + interval
    write_even_when_full()
    redis.call('SET', key, string.format('%.3f', base), 'PX', whole(math.ceil((slack + interval) / 1000) + 1000))
  end
  -- The small part makes up for the rounding of what is stored: a start that is due counts as due.
  return math.max(0, math.floor((now_us + slack - base) / interval + 0.000001) + 1), base
end

local function take_starts(key, interval, base, count, now_us)
  local at = base + count * interval
  redis.call('SET', key, string.format('%.3f', at), 'PX', whole(math.ceil((at - now_us) / 1000) + 1000))
end

local function limits_of_group(group, rate, concurrency)
  local own = redis.call('HGET', META, 'lg:' .. group)
  if own then
    local a, b = string.match(own, FIVE)
    return chosen(a, rate), chosen(b, concurrency)
  end
  return rate, concurrency
end

-- Count a run of a group's job out, and let the group stand in line again if it was parked for that.
local function end_group_run(group)
  if redis.call('HINCRBY', RUNNING, group, -1) <= 0 then redis.call('HDEL', RUNNING, group) end
  if redis.call('ZSCORE', PARKED, group) == 'inf' then unpark(group) end
end
