-- Tell a job how one of those ended that it runs after.
--
-- KEYS[1]  meta
-- ARGV     queue that the word comes from ('' when it is no step of an outbox), id of the step, id of the job,
--          full id of the one that ended, its state, what its failure does to the job (fail or continue), its result or
--          error as JSON ('' for none)
-- Returns  steps in this queue's own outbox

-- include: lib/job.lua
-- include: lib/waiting.lua
-- include: lib/finish.lua
-- include: lib/unblock.lua
-- include: lib/relayed.lua

local id, from, state, policy, data = ARGV[3], ARGV[4], ARGV[5], ARGV[6], ARGV[7]
local key = JOB .. id
if ARGV[1] ~= '' and not is_new_step(ARGV[1], ARGV[2]) then return redis.call('XLEN', OUTBOX) end
local stored = redis.call('HMGET', key, 's', 'i', 'D:' .. from)
local f = standing(stored[1])
-- It may have been cancelled, removed, or told before.
if not f or f.state ~= 'blocked' or not stored[3] then return redis.call('XLEN', OUTBOX) end

local now = server_ms()
local result = string.format('{"state":"%s","%s":%s}', state, state == 'completed' and 'result' or 'error',
  data ~= '' and data or 'null')
redis.call('HSET', key, 'R:' .. from, result)
redis.call('HDEL', key, 'D:' .. from)
if state ~= 'completed' and policy == 'fail' then
  local error = cjson.encode({type = 'DependencyFailed', code = 'dependency-failed', retryable = false,
    message = 'Job ' .. from .. ', which it runs after, ' .. (state == 'failed' and 'failed.' or 'was ' .. state .. '.')})
  redis.call('ZREM', BLOCKED, id)
  to_finished(id, key, now, f, stored[2], 'failed', 'e', error)
  emit('failed', id, 'n', name_of(stored[2]), 'a', f.a, 'x', error)
elseif redis.call('HINCRBY', key, 'dn', -1) <= 0 then
  unblock(id, key, f, stored[2], now)
end
flush_events()
return redis.call('XLEN', OUTBOX)
