-- Read a page of the jobs of one state.
--
-- KEYS[1]  meta
-- ARGV     state, newest first (0 or 1), cursor as 'score:id' ('' for the beginning), limit
-- Returns  flat list of id, score, fields of the job's hash (flat), a triple a job

-- include: lib/job.lua

local set, reverse, cursor, limit = P .. ARGV[1], ARGV[2] == '1', ARGV[3], tonumber(ARGV[4])
local start = 0
if cursor ~= '' then
  local score, id = string.match(cursor, '^([^:]+):(.+)$')
  local rank = redis.call(reverse and 'ZREVRANK' or 'ZRANK', set, id)
  if rank then
    start = rank + 1
  else
    -- The job of the cursor has moved on: go on behind where it stood.
    start = reverse and redis.call('ZCOUNT', set, '(' .. score, '+inf') or redis.call('ZCOUNT', set, '-inf', '(' .. score)
  end
end
local found = redis.call(reverse and 'ZREVRANGE' or 'ZRANGE', set, start, start + limit - 1, 'WITHSCORES')
local out = {}
for i = 1, #found, 2 do
  out[#out + 1] = found[i]
  out[#out + 1] = found[i + 1]
  out[#out + 1] = redis.call('HGETALL', JOB .. found[i])
end
return out
