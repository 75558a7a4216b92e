-- Let a job run that has nothing to wait for any more; a delay that it was added with counts from now.

local function unblock(id, key, f, i, now)
  local what = identity(i)
  local delay, run_at = string.match(redis.call('HGET', key, 'bd') or '0 ', '^(%S+) (.*)$')
  local due = run_at ~= '' and tonumber(run_at) or now + tonumber(delay)
  redis.call('ZREM', BLOCKED, id)
  redis.call('HDEL', key, 'bd', 'dn')
  if due > now then
    f.state, f.at = 'delayed', whole(due)
    redis.call('HSET', key, 's', stand(f))
    redis.call('ZADD', DELAYED, due, id)
    emit('delayed', id, 'n', what.name, 'due', f.at)
    local first = redis.call('ZRANGE', DELAYED, 0, 0, 'WITHSCORES')
    if tonumber(first[2]) >= due then arm_wake() end
  else
    f.state = 'waiting'
    redis.call('HSET', key, 's', stand(f))
    to_waiting(id, what.priority, next_place(1), what.group)
    emit('waiting', id, 'n', what.name)
    if not is_paused() then arm_wake() end
  end
end
