-- Ends of runs in a cycle: committed together, most of them in one piece.
--
-- Part of cycle.lua, whose time, worker, limits and arguments it uses.

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
