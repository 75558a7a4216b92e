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

-- include: lib/ending.lua

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

-- include: lib/leasing.lua

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
