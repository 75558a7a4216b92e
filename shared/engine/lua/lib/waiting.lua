-- Order of waiting jobs: priority first (lower runs first), then the order of arrival.
--
-- The score is priority * 2^42 + place, an integer below 2^53 and so exact in a double. Places are counted per queue;
-- at 20,000 jobs a second 42 bits last seven years. Place 0 is the head: jobs that are handed back go there and keep
-- their order by id, whose first part is the time they were made.
local SPAN = 4398046511104

local function score_of(priority, place)
  -- %.0f: Lua's own conversion keeps 14 digits only
  return string.format('%.0f', tonumber(priority) * SPAN + place)
end

local function next_place(count)
  return redis.call('HINCRBY', META, 'pos', count) - count + 1
end

local function to_waiting(id, priority, place)
  redis.call('ZADD', WAITING, score_of(priority, place), id)
end
