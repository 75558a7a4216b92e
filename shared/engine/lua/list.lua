-- Read a page of the jobs of one state.
--
-- KEYS[1]  meta
-- ARGV     state, newest first (0 or 1), cursor as 'score:id' ('' for the beginning), limit
-- Returns  flat list of id, score, fields of the job's hash (flat), a triple a job

-- include: lib/job.lua
-- include: lib/waiting.lua

local state, reverse, cursor, limit = ARGV[1], ARGV[2] == '1', ARGV[3], tonumber(ARGV[4])

-- How many jobs stand before the place (score, id), and whether the job of that id still stands there.
local function find(set, score, id)
  local low = redis.call('ZCOUNT', set, '-inf', '(' .. score)
  local behind = redis.call('ZCOUNT', set, '-inf', score)
  local high = behind
  while low < high do
    local middle = math.floor((low + high) / 2)
    if redis.call('ZRANGE', set, middle, middle)[1] < id then low = middle + 1 else high = middle end
  end
  return low, low < behind and redis.call('ZRANGE', set, low, low)[1] == id
end

local function page(set)
  local start = 0
  if cursor ~= '' then
    local score, id = string.match(cursor, '^([^:]+):(.+)$')
    local rank, there = find(set, score, id)
    if reverse then
      start = redis.call('ZCARD', set) - rank
    else
      start = there and rank + 1 or rank
    end
  end
  return redis.call(reverse and 'ZREVRANGE' or 'ZRANGE', set, start, start + limit - 1, 'WITHSCORES')
end

-- Whether the first job of one page comes before that of the other.
local function comes_first(a, n, b, m)
  local x, y = tonumber(a[n + 1]), tonumber(b[m + 1])
  if x == y then return (a[n] < b[m]) ~= reverse end
  return (x < y) ~= reverse
end

local function merge(a, b)
  local merged, n, m = {}, 1, 1
  while #merged < 2 * limit and (a[n] or b[m]) do
    if a[n] and (not b[m] or comes_first(a, n, b, m)) then
      merged[#merged + 1], merged[#merged + 2] = a[n], a[n + 1]
      n = n + 2
    else
      merged[#merged + 1], merged[#merged + 2] = b[m], b[m + 1]
      m = m + 2
    end
  end
  return merged
end

local found = page(P .. state)
if state == 'waiting' and knows_groups() then found = merge(found, page(GROUPED)) end
local out = {}
for n = 1, #found, 2 do
  out[#out + 1] = found[n]
  out[#out + 1] = found[n + 1]
  out[#out + 1] = redis.call('HGETALL', JOB .. found[n])
end
return out
