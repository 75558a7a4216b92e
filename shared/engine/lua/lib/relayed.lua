-- Steps from the outboxes of queues (this one's included), each taken once.
--
-- Steps of one outbox are taken in their order, so the id of the last one tells of every other whether it was taken:
-- whoever repeats one, after a lost reply or because it died, changes nothing, even if the job that the step added has run and
-- was removed since.

local function is_new_step(home, step)
  local field = 'ob:' .. home
  local last = redis.call('HGET', META, field)
  if last then
    local ms, n = string.match(last, '^(%d+)-(%d+)$')
    local step_ms, step_n = string.match(step, '^(%d+)-(%d+)$')
    ms, n, step_ms, step_n = tonumber(ms), tonumber(n), tonumber(step_ms), tonumber(step_n)
    if step_ms < ms or (step_ms == ms and step_n <= n) then return false end
  end
  redis.call('HSET', META, field, step)
  return true
end
