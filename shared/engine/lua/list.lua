-- Read a page of the jobs of one state.
--
-- KEYS[1]  meta
-- ARGV     state, newest first (0 or 1), cursor as 'score:id' ('' for the beginning), limit
-- Returns  flat list of id, score, fields of the job's hash (flat), a triple a job

-- include: lib/job.lua

local set, reverse, cursor, limit = P .. ARGV[1], ARGV[2] == '1', ARGV[3], tonumber(ARGV[4])
local start = 0

-- How many jobs stand before the place (score, id), and whether the job of that id still stands there.
local function find(score, id)
  local low = redis.call('ZCOUNT', set, '-inf', '(' .. score)
  local behind = redis.call('ZCOUNT', set, '-inf', score)
  local high = behind
  while low < high do
    local middle = math.floor((low + high) / 2)
    if redis.call('ZRANGE', set, middle, middle)[1] < id then low = middle + 1 else high = middle end
  end
  return low, low < behind and redis.call('ZRANGE', set, low, low)[1] == id
end

if cursor ~= '' then
  local score, id = string.match(cursor, '^([^:]+):(.+)$')
  local rank, there = find(score, id)
  if reverse then
    start = redis.call('ZCARD', set) - rank
  else
    start = there and rank + 1 or rank
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
