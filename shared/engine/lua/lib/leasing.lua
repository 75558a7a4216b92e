-- What a cycle hands out: the next jobs, by priority and by turns of groups, as far as the limits allow.
--
-- Part of cycle.lua, whose time, worker, limits and arguments it uses.

local deadlines = {}
local deadline_s = whole(now + lease_ms)
local leased = 0 -- jobs in the reply, each of which is LEASED values
local LEASED = 4
local first_lease = 'active 0 ' .. request .. FIRST_RUN .. now_s .. ' ' .. worker

local function hand_out(jobs, id, i, body, counted)
  local at = leased * LEASED
  jobs[at + 1], jobs[at + 2], jobs[at + 3], jobs[at + 4] = id, i, body, counted
  leased = leased + 1
end

-- Jobs that a lost reply of this request leased: they are this worker's still.
local function leased_before(jobs)
  local ids = redis.call('ZRANGE', ACTIVE, 0, -1)
  for n = 1, #ids do
    -- The bodies of all that run could be more than the server has memory for.
    local f = standing(redis.call('HGET', JOB .. ids[n], 's'))
    if f and f.w == worker and f.rq == request then
      local stored = redis.call('HMGET', JOB .. ids[n], 'i', 'd')
      hand_out(jobs, ids[n], stored[1], stored[2], f.l .. ' ' .. f.a .. ' ' .. f.t)
    end
  end
end

local function lease(id, jobs)
  local key = JOB .. id
  local stored = redis.call('HMGET', key, 's', 'i', 'd')
  local i = stored[2]
  -- a job without a record cannot be: a script adds and removes both. It would be a server that lost writes.
  if not i then return false end
  deadlines[#deadlines + 1] = deadline_s
  deadlines[#deadlines + 1] = id
  if stored[1] == 'waiting' then
    redis.call('HSET', key, 's', first_lease)
    emit_line('active\t' .. id .. '\tn\t' .. name_of(i) .. '\ta\t1')
    hand_out(jobs, id, i, stored[3], '')
    return true
  end
  local f = standing(stored[1])
  local token, attempt = whole(tonumber(f.l) + 1), whole(tonumber(f.a) + 1)
  f.state, f.l, f.a, f.sa, f.w, f.rq, f.at = 'active', token, attempt, now_s, worker, request, '0'
  redis.call('HSET', key, 's', stand(f))
  emit('active', id, 'n', name_of(i), 'a', attempt)
  hand_out(jobs, id, i, stored[3], token .. ' ' .. attempt .. ' ' .. f.t)
  return true
end

local PARK = 100 -- groups found held back by one call: a bound on how long the server is held
local parks = 0

-- Give the group whose turn it is to this worker: one of its jobs, unless its limits hold it back.
local function take_turn(jobs)
  local head = redis.call('ZPOPMIN', LINE)
  local group, turn = head[1], head[2]
  local g_rate, g_concurrency = group_rate, group_concurrency
  if group ~= '' then g_rate, g_concurrency = limits_of_group(group, group_rate, group_concurrency) end
  if group ~= '' and g_concurrency ~= ''
    and tonumber(redis.call('HGET', RUNNING, group) or '0') >= tonumber(g_concurrency) then
    redis.call('ZADD', PARKED, 'inf', group)
    parks = parks + 1
    return
  end
  if group ~= '' and g_rate ~= '' then
    local interval, slack = string.match(g_rate, '^(%S+) (%S+)$')
    interval, slack = tonumber(interval), tonumber(slack)
    local allowed, base = starts_allowed(LIMITER .. ':' .. group, interval, slack, now_us)
    if allowed < 1 then
      redis.call('ZADD', PARKED, math.ceil((base - slack) / 1000), group)
      parks = parks + 1
      return
    end
    take_starts(LIMITER .. ':' .. group, interval, base, 1, now_us)
  end
  local popped = redis.call('ZPOPMIN', GROUP .. group)
  -- Its jobs are gone but its turn was not: it was emptied by a removal of the whole queue that was broken off.
  if not popped[1] then return end
  redis.call('ZREM', GROUPED, popped[1])
  if lease(popped[1], jobs) and group ~= '' then redis.call('HINCRBY', RUNNING, group, 1) end
  end_turn(group, turn)
end

-- Jobs that waited before the queue knew groups are like one more group, with a place of its own in line.
local function is_turn_of_old(old, head)
  if not head[2] then return true end
  local priority, other = priority_of(old[2]), priority_of(head[2])
  if priority ~= other then return priority < other end
  local place = tonumber(redis.call('HGET', META, 'old') or '-9007199254740992')
  if place > tonumber(head[2]) then return false end
  write_even_when_full()
  redis.call('HSET', META, 'old', whole(tonumber(head[2]) + TURN))
  return true
end

local function lease_by_turns(jobs, most)
  local looks = most - leased + PARK
  while leased < most and looks > 0 do
    looks = looks - 1
    local head = redis.call('ZRANGE', LINE, 0, 0, 'WITHSCORES')
    local old = redis.call('ZRANGE', WAITING, 0, 0, 'WITHSCORES')
    if not head[2] and not old[2] then return end
    if old[2] and is_turn_of_old(old, head) then
      redis.call('ZPOPMIN', WAITING)
      lease(old[1], jobs)
    else
      take_turn(jobs)
    end
  end
end

local function lease_next(jobs, most)
  local popped = redis.call('ZPOPMIN', WAITING, most - leased)
  for n = 1, #popped, 2 do lease(popped[n], jobs) end
end

local limited = false
local next_us -- when the rate allows the next start

-- Lease up to ``want`` jobs, as many as the limits of the queue allow.
local function fetch(jobs)
  local most = want
  if concurrency ~= '' then
    most = math.min(most, leased + tonumber(concurrency) - redis.call('ZCARD', ACTIVE))
    limited = most <= leased or most < want
  end
  local interval, slack, allowed, base
  if rate ~= '' then
    interval, slack = string.match(rate, '^(%S+) (%S+)$')
    interval, slack = tonumber(interval), tonumber(slack)
    allowed, base = starts_allowed(LIMITER, interval, slack, now_us)
    most = math.min(most, leased + allowed)
  end
  local had = leased
  if most > leased then
    if grouped then lease_by_turns(jobs, most) else lease_next(jobs, most) end
  end
  if #deadlines > 0 then redis.call('ZADD', ACTIVE, unpack(deadlines)) end
  if concurrency ~= '' then limited = redis.call('ZCARD', ACTIVE) >= tonumber(concurrency) end
  if rate ~= '' then
    local taken = leased - had
    if taken > 0 then take_starts(LIMITER, interval, base, taken, now_us) end
    if taken >= allowed then
      limited = true
      next_us = base + taken * interval - slack
    end
  end
end
