-- Adding a job.
--
-- Its 8 values: id, name, body, priority, delay in ms, run-at in ms ('' for none), the rest of its identity from the most stalls
-- on, and what only few have as JSON ('' for none): {"ik", "ih", "iw": idempotency key, hash and window in ms;
-- "after": {id: on failure}; "next": lines for field fx}

local IDEMPOTENCY = P .. 'ik:'
local PLAIN = '^[^\n]*\n\n\n\n\n'
local REST = '^[^\n]*\n[^\n]*\n([^\n]*)\n([^\n]*)\n'

local ADDED = {waiting = {}, earliest = nil, armed = false} -- what the call has to write and say at its end

local function replace_delayed(holder, key, f, i, name, body, priority, due, rest, now)
  local what = identity(i)
  f.at = whole(due)
  redis.call('HSET', key, 's', stand(f), 'i', what.mark .. table.concat({name, priority, what.added, rest}, '\n'), 'd', body)
  redis.call('ZADD', DELAYED, due, holder)
  if not ADDED.earliest or due < ADDED.earliest then ADDED.earliest = due end
  emit('delayed', holder, 'n', name, 'due', whole(due))
end

-- Give the job that holds a deduplication key against a new one, and whether that one took its place.
local function meet_holder(dedupe, name, body, priority, due, rest, now)
  local mode, _, dedupe_key = string.match(dedupe, '^(%S+) (%S+) (.*)$')
  local holder = redis.call('GET', DEDUPE .. dedupe_key)
  if not holder then return nil end
  local key = JOB .. holder
  local stored = redis.call('HMGET', key, 's', 'i')
  local f = standing(stored[1])
  if mode == 'throttle' then return holder, false end
  if mode == 'debounce' then
    if f and f.state == 'delayed' then
      replace_delayed(holder, key, f, stored[2], name, body, priority, due, rest, now)
      return holder, true
    end
    return nil
  end
  if f or redis.call('PTTL', DEDUPE .. dedupe_key) > 0 then return holder, false end
  return nil
end

local function take_dedupe_key(id, dedupe)
  local mode, window, dedupe_key = string.match(dedupe, '^(%S+) (%S+) (.*)$')
  if mode == 'throttle' then
    redis.call('SET', DEDUPE .. dedupe_key, id, 'PX', window)
  else
    redis.call('SET', DEDUPE .. dedupe_key, id)
  end
end

-- Whether a job is new, as far as can be told without adding it.
local function needs_room(id, rest, extra_text)
  if redis.call('EXISTS', JOB .. id) == 1 then return false end
  local extra = extra_text ~= '' and cjson.decode(extra_text) or nil
  if extra and extra.ik and redis.call('EXISTS', IDEMPOTENCY .. extra.ik) == 1 then return false end
  local _, dedupe = string.match(rest, REST)
  if dedupe == '' then return true end
  local mode, _, dedupe_key = string.match(dedupe, '^(%S+) (%S+) (.*)$')
  local holder = redis.call('GET', DEDUPE .. dedupe_key)
  if not holder then return true end
  if mode ~= 'debounce' then return false end
  local f = standing(redis.call('HGET', JOB .. holder, 's'))
  return not f or f.state ~= 'delayed'
end

local function add_blocked(id, key, identity_text, name, body, delay, run_at, extra)
  local fields, count = {}, 0
  for dependency, policy in pairs(extra.after) do
    fields[#fields + 1] = 'D:' .. dependency
    fields[#fields + 1] = policy
    count = count + 1
  end
  for n = 1, #fields, 1000 do
    redis.call('HSET', key, unpack(fields, n, math.min(n + 999, #fields)))
  end
  redis.call('HSET', key, 's', 'blocked', 'i', identity_text, 'd', body, 'dn', count, 'bd', delay .. ' ' .. run_at)
  emit('added', id, 'n', name, 'blocked', count)
end

-- A request that is repeated is answered with the same job, even if that was the holder of a deduplication key.
local function remember_request(extra, id)
  if extra and extra.ik then
    redis.call('SET', IDEMPOTENCY .. extra.ik, id .. ' ' .. extra.ih, 'PX', whole(extra.iw))
  end
end

-- Give the status, and the job that stands for it when that is another.
local function add_job(now, place, id, name, body, priority, delay, run_at, rest, extra_text)
  local key = JOB .. id
  if redis.call('EXISTS', key) == 1 then return 0 end
  local extra = extra_text ~= '' and cjson.decode(extra_text) or nil
  if extra and extra.ik then
    local known = redis.call('GET', IDEMPOTENCY .. extra.ik)
    if known then
      local first, hash = string.match(known, '^(%S+) (.*)$')
      return hash == extra.ih and 0 or -1, first
    end
  end
  local due = run_at ~= '' and tonumber(run_at) or now + tonumber(delay)
  local group, dedupe = string.match(rest, REST)
  if dedupe ~= '' then
    local holder, replaced = meet_holder(dedupe, name, body, priority, due, rest, now)
    if holder then
      remember_request(extra, holder)
      return replaced and 3 or 2, holder
    end
    take_dedupe_key(id, dedupe)
  end
  remember_request(extra, id)
  local mark = string.find(rest, PLAIN) and 'p' or 'x'
  local identity_text = mark .. name .. '\n' .. priority .. '\n' .. whole(now) .. '\n' .. rest
  if extra and extra.next then redis.call('HSET', key, 'fx', extra.next) end
  if extra and extra.after then
    redis.call('ZADD', BLOCKED, now, id)
    add_blocked(id, key, identity_text, name, body, delay, run_at, extra)
  elseif due > now then
    redis.call('HSET', key, 's', 'delayed ' .. whole(due) .. ' - - 0 0 0 0 0 -', 'i', identity_text, 'd', body)
    redis.call('ZADD', DELAYED, due, id)
    if not ADDED.earliest or due < ADDED.earliest then ADDED.earliest = due end
    emit('added', id, 'n', name, 'due', whole(due))
  else
    redis.call('HSET', key, 's', 'waiting', 'i', identity_text, 'd', body)
    if group == '' and not knows_groups() then
      local waiting = ADDED.waiting
      waiting[#waiting + 1] = score_of(priority, place)
      waiting[#waiting + 1] = id
    else
      enter_group(id, group, score_of(priority, place))
      ADDED.entered = true
    end
    emit('added', id, 'n', name)
  end
  return 1
end

local function end_adding()
  local waiting = ADDED.waiting
  -- in slices: Lua's stack bounds what unpack may give
  for n = 1, #waiting, 2000 do
    redis.call('ZADD', WAITING, unpack(waiting, n, math.min(n + 1999, #waiting)))
  end
  if (#waiting > 0 or ADDED.entered) and not is_paused() then
    arm_wake()
  elseif ADDED.earliest then
    -- Idle workers sleep until the next due job: one that is due before it must wake them to look again.
    local first = redis.call('ZRANGE', DELAYED, 0, 0, 'WITHSCORES')
    if tonumber(first[2]) >= ADDED.earliest then arm_wake() end
  end
  flush_events()
end
