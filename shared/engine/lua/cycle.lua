-- The hot path: commit finished runs, tidy up, lease the next jobs, all in one step.
--
-- KEYS[1]  meta
-- ARGV     worker, request id, repeat (1: the reply of this very request was lost), jobs wanted, lease in ms,
--          default most stalls, completed: age in ms, count, bytes ('' for no bound); failed and cancelled: age in ms,
--          count, bytes; limits of the contract (lib/limits.lua); number of finishes, then for each finish:
--          id, token, outcome, delay in ms, data, body, number of followers, then for each follower 9 values: queue
--          and the 8 of a job (lib/adding.lua)
-- Returns  {ms until something may become due (-1: nothing), statuses, jobs, limited (0 or 1), steps in the outbox}
--          status: 1 committed, 0 committed before, -1 lease lost, -2 no such job
--          jobs: flat, 4 values a job: id, identity, body, and token, attempt and stalls parted by a space, '' for a
--          first lease

-- include: lib/job.lua
-- include: lib/waiting.lua
-- include: lib/limits.lua
-- include: lib/finish.lua
-- include: lib/reap.lua

local now_us = server_us()
local now = math.floor(now_us / 1000)
local now_s = whole(now)
local worker, request, again = ARGV[1], ARGV[2], ARGV[3] == '1'
-- Bounded, since Lua's stack bounds what unpack may give, and an error after the pop would lose the jobs.
local want = math.min(tonumber(ARGV[4]), 1000)
local lease_ms, default_max_stalls = tonumber(ARGV[5]), ARGV[6]
local finish_count = tonumber(ARGV[14])
local retry_due -- when the first job that this call sends back with a delay is due
local wrote_steps = false

local meta = redis.call('HMGET', META, 'paused', 'grouped', 'lim', 'by:completed')
local paused, counts_bytes = meta[1], meta[4] or ARGV[9] ~= ''
grouped = meta[2] and true or false
local rate, concurrency, group_rate, group_concurrency = string.match(effective_limits(ARGV[13], meta[3]), FIVE)

local completed = {} -- scores and ids, written together

-- How nearly every job stands when its run ends: its first lease, no flag. What it looks like is worth knowing: taking a
-- standing apart and putting it together again costs more than all the commands of a completion.
local FIRST_RUN = ' - 1 1 0 0 '

-- Where in the standing of a plain job in its first run the part begins that stays; nil for any other.
local function first_run(s, i)
  return string.byte(s, 2) == 99 and is_plain(i) and string.find(s, FIRST_RUN, 8, true) -- active
end

local function complete_first_run(id, s, i, stays, data)
  local standing_now = 'completed ' .. now_s .. ' -' .. string.sub(s, stays)
  if data == '' then
    redis.call('HSET', JOB .. id, 's', standing_now)
  else
    redis.call('HSET', JOB .. id, 's', standing_now, 'r', data)
  end
  if counts_bytes and meta[4] then
    redis.call('HINCRBY', META, 'by:completed', redis.call('HSTRLEN', JOB .. id, 'd') + #data)
  end
  completed[#completed + 1] = now_s
  completed[#completed + 1] = id
  emit_line('completed\t' .. id .. '\tn\t' .. name_of(i) .. '\ta\t1')
end

local function complete(id, key, f, i, data)
  -- by the lease and not the attempt: a stall costs none, and leaves an error all the same
  local spent = f.l ~= '1' or has_flag(f.flags, 'k')
  f.state, f.at, f.rq, f.flags = 'completed', now_s, '-', without_flag(f.flags, 'k')
  if data == '' then
    redis.call('HSET', key, 's', stand(f))
  else
    redis.call('HSET', key, 's', stand(f), 'r', data)
  end
  if spent then redis.call('HDEL', key, 'e', 'ck') end -- only a further attempt would need them
  if counts_bytes and meta[4] then
    redis.call('HINCRBY', META, 'by:completed', redis.call('HSTRLEN', key, 'd') + #data)
  end
  completed[#completed + 1] = now_s
  completed[#completed + 1] = id
  if not is_plain(i) then settle(id, key, identity(i), 'completed', data, now) end
  emit('completed', id, 'n', name_of(i), 'a', f.a)
end

local function send_back(id, key, f, i, delay, data, body)
  local what = identity(i)
  keep_attempt(key, now, f, 'retry', data)
  if body ~= '' then redis.call('HSET', key, 'd', body) end
  f.t, f.lf, f.rq = '0', f.l, '-'
  if delay > 0 then
    local due = now + delay
    f.state, f.at = 'delayed', whole(due)
    redis.call('HSET', key, 's', stand(f), 'e', data)
    redis.call('ZADD', DELAYED, due, id)
    if not retry_due or due < retry_due then retry_due = due end
    emit('delayed', id, 'n', what.name, 'due', whole(due), 'x', brief(data))
  else
    f.state = 'waiting'
    redis.call('HSET', key, 's', stand(f), 'e', data)
    to_waiting(id, what.priority, next_place(1), what.group)
    emit('waiting', id, 'n', what.name, 'x', brief(data))
  end
end

local function end_run(id, key, f, i, outcome, delay, data, body)
  if outcome == 'complete' then
    complete(id, key, f, i, data)
  elseif outcome == 'fail' then
    keep_attempt(key, now, f, 'fail', data)
    to_finished(id, key, now, f, i, 'failed', 'e', data)
    emit('failed', id, 'n', name_of(i), 'a', f.a, 'x', brief(data))
  elseif outcome == 'cancel' or has_flag(f.flags, 'c') then
    keep_attempt(key, now, f, 'cancel', data)
    to_finished(id, key, now, f, i, 'cancelled', 'e', CANCELLED)
    emit('cancelled', id, 'n', name_of(i))
  elseif outcome == 'release' then
    local what = identity(i)
    f.state, f.a, f.lf, f.rq = 'waiting', tonumber(f.a) - 1, f.l, '-'
    redis.call('HSET', key, 's', stand(f))
    to_waiting(id, what.priority, 0, what.group)
    emit('waiting', id, 'n', what.name)
  else
    send_back(id, key, f, i, delay, data, body)
  end
  if not is_plain(i) then
    local group = identity(i).group
    if group ~= '' then end_group_run(group) end
  end
end

-- Jobs that a run leaves behind; they may go to other queues, which this script may not touch.
local function stage(o, count)
  for n = 1, count do
    redis.call('XADD', OUTBOX, '*', 't', 'add', 'q', ARGV[o], '1', ARGV[o + 1], '2', ARGV[o + 2], '3', ARGV[o + 3],
      '4', ARGV[o + 4], '5', ARGV[o + 5], '6', ARGV[o + 6], '7', ARGV[o + 7], '8', ARGV[o + 8])
    o = o + 9
  end
end

-- What a finish meets: a status, and for one that is to be committed how the job stands and what it is; for the first run
-- of a plain job where the part of its standing begins that stays.
local function examine(id, token, seen)
  local stored = redis.call('HMGET', JOB .. id, 's', 'i')
  local s = stored[1]
  if not s then return -2 end
  local stays = token == '1' and not seen[id] and first_run(s, stored[2])
  if stays then return 1, s, stored[2], stays end
  local f = standing(s)
  -- A job that was sent back may have been leased again before its finish is repeated, by the lost call itself.
  if f.lf == token then return seen[id] == 'sent back' and -1 or 0 end
  if f.l ~= token then return -1 end
  if f.state ~= 'active' or seen[id] then return 0 end
  return 1, f, stored[2]
end

local function commit(id, o, f, i, stays, followers)
  if type(f) == 'string' then
    if ARGV[o + 2] == 'complete' then
      complete_first_run(id, f, i, stays, ARGV[o + 4])
    else
      end_run(id, JOB .. id, standing(f), i, ARGV[o + 2], tonumber(ARGV[o + 3]), ARGV[o + 4], ARGV[o + 5])
    end
  else
    end_run(id, JOB .. id, f, i, ARGV[o + 2], tonumber(ARGV[o + 3]), ARGV[o + 4], ARGV[o + 5])
  end
  if followers > 0 then stage(o + 7, followers) end
  if followers > 0 or not is_plain(i) then wrote_steps = true end
end

local function commit_finishes()
  local statuses, ids, seen = {}, {}, {}
  local places, standings, identities, stay, follow = {}, {}, {}, {}, {}
  local o = 15
  for n = 1, finish_count do
    local id = ARGV[o]
    local followers = ARGV[o + 6] == '0' and 0 or tonumber(ARGV[o + 6])
    local status, f, i, stays = examine(id, ARGV[o + 1], seen)
    statuses[n] = status
    if status == 1 then
      local back = ARGV[o + 2] == 'retry' or ARGV[o + 2] == 'release'
      if back and not stays then back = not has_flag(f.flags, 'c') end
      seen[id] = back and 'sent back' or 'ended'
      local at = #ids + 1
      ids[at], places[at], standings[at], identities[at], stay[at], follow[at] = id, o, f, i, stays or false, followers
    end
    o = o + 7 + followers * 9
  end
  if #ids > 0 then
    -- It comes first: see write_even_when_full.
    redis.call('ZREM', ACTIVE, unpack(ids))
  end
  for n = 1, #ids do
    commit(ids[n], places[n], standings[n], identities[n], stay[n], follow[n])
  end
  if #completed > 0 then redis.call('ZADD', P .. 'completed', unpack(completed)) end
  return statuses
end

local function promote_due()
  local due = redis.call('ZRANGEBYSCORE', DELAYED, '-inf', now, 'LIMIT', 0, 50)
  if #due == 0 then return end
  -- It comes first: see write_even_when_full.
  redis.call('ZREM', DELAYED, unpack(due))
  local place = next_place(#due)
  for n = 1, #due do
    local key = JOB .. due[n]
    local stored = redis.call('HMGET', key, 's', 'i')
    local f = standing(stored[1])
    if f then
      local what = identity(stored[2])
      f.state = 'waiting'
      redis.call('HSET', key, 's', stand(f))
      to_waiting(due[n], what.priority, place + n - 1, what.group)
      emit('waiting', due[n], 'n', what.name)
    end
  end
end

local function unpark_due()
  local due = redis.call('ZRANGEBYSCORE', PARKED, '-inf', now, 'LIMIT', 0, 100)
  for n = 1, #due do unpark(due[n]) end
end

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

local statuses = finish_count > 0 and commit_finishes() or {}
reap(now, default_max_stalls)
promote_due()
if grouped then unpark_due() end

local jobs = {}
if again then leased_before(jobs) end
if not paused then
  fetch(jobs)
  if has_waiting() then
    -- Whoever has a thread to spare keeps the timer of a limit; a caller that is full hands it to an idle one.
    if not limited or (next_us and leased > 0 and leased >= want) then arm_wake() end
  else
    limited = false
  end
  if grouped and not limited then limited = redis.call('EXISTS', PARKED) == 1 end
end

if finish_count > 0 or leased == 0 then
  -- more than come in, or what is kept would grow under load
  sweep_most = sweep_most + math.min(finish_count, 1000)
  -- also when there is nothing to do, or what ages in a quiet queue would stay for ever
  trim('completed', tonumber(ARGV[7]), tonumber(ARGV[8]), ARGV[9], now)
  trim('failed', tonumber(ARGV[10]), tonumber(ARGV[11]), ARGV[12], now)
  trim('cancelled', tonumber(ARGV[10]), tonumber(ARGV[11]), ARGV[12], now)
  sweep_expired(now)
end

local next_ms = -1

local function sooner(ms)
  if next_ms < 0 or ms < next_ms then next_ms = ms end
end

local due = redis.call('ZRANGE', DELAYED, 0, 0, 'WITHSCORES')
if due[2] then
  sooner(math.max(0, tonumber(due[2]) - now))
  -- Whoever has a thread to spare keeps the timer; a caller that is full or stopping hands it to an idle one.
  if retry_due and retry_due <= tonumber(due[2]) and leased >= want and not paused then arm_wake() end
end
local deadline = redis.call('ZRANGE', ACTIVE, 0, 0, 'WITHSCORES')
if deadline[2] then sooner(math.max(0, tonumber(deadline[2]) - now + 1)) end
if limited and next_us then sooner(math.max(1, math.ceil((next_us - now_us) / 1000))) end
-- There may be groups yet that are not held back.
if parks >= PARK and leased < want then sooner(0) end
if grouped then
  local parked = redis.call('ZRANGE', PARKED, 0, 0, 'WITHSCORES')
  if parked[2] and parked[2] ~= 'inf' then sooner(math.max(1, tonumber(parked[2]) - now)) end
end
local steps = redis.call('XLEN', OUTBOX)
-- Should this caller die before it takes them, an idle worker is there to take them.
if steps > 0 and wrote_steps then arm_wake() end
flush_events()
return {next_ms, statuses, jobs, limited and 1 or 0, steps}
