-- Order of waiting jobs: priority first (lower runs first), then the order of arrival.
--
-- The score is priority * 2^42 + place, an integer below 2^53 and so exact in a double. Places are counted per queue;
-- at 20,000 jobs a second 42 bits last seven years. Place 0 is the head: jobs that are handed back go there and keep
-- their order by id, whose first part is the time they were made.
--
-- Groups. Once a queue has seen a job with a group, every job that comes to wait goes into the set of its group (those
-- without one form the group ''), and the groups stand in a line of their own: a group's score there is the priority of its
-- first job, and a place that grows by TURN with each turn that it takes. So groups of one priority take turns. One that
-- joins stands right behind the head and waits for at most one turn of each other, but a group that comes back stands no
-- better than if it had stayed: whoever has a job at a time would else be served for ever before those who have many. A
-- group that its own limits hold back is parked: it stands in no line, and blocks nobody.
local SPAN = 4398046511104
local TURN = 4 -- more than 1, so that groups that are new each time don't go before those that wait, one after the other

local LINE = P .. 'line' -- groups that may run, by turn
local PARKED = P .. 'parked' -- groups that may not; score: until when, or infinite while its jobs run
local GROUPED = P .. 'grouped' -- every waiting job of a group, for lists
local GROUP = P .. 'g:' -- waiting jobs of one group
local TURNS = P .. 'turns' -- where groups would stand that have had a turn

local grouped -- whether the queue knows groups; nil until it was looked up

local function knows_groups()
  if grouped == nil then grouped = redis.call('HEXISTS', META, 'grouped') == 1 end
  return grouped
end

local function score_of(priority, place)
  return whole(tonumber(priority) * SPAN + place)
end

local function priority_of(score)
  return math.floor(tonumber(score) / SPAN)
end

local function next_place(count)
  return redis.call('HINCRBY', META, 'pos', count) - count + 1
end

-- The score of the first that stands in a line with a priority; those that were handed back stand before the line.
local function first_place(line, priority)
  local range = redis.call('ZRANGEBYSCORE', line, score_of(priority, 1), '(' .. score_of(priority + 1, 0),
    'WITHSCORES', 'LIMIT', 0, 1)
  return range[2]
end

-- With nobody in line there is nobody to be fair to.
local function forget_turns()
  if redis.call('EXISTS', LINE, PARKED) == 0 then redis.call('UNLINK', TURNS) end
end

local function last_turn(priority)
  return 'turn:' .. whole(priority)
end

local function join_line(group, priority)
  local head = tonumber(first_place(LINE, priority))
  if not head then
    head = math.max(tonumber(redis.call('HGET', META, last_turn(priority)) or score_of(priority, 0)),
      tonumber(first_place(WAITING, priority) or score_of(priority, 0)))
  end
  local score = head + 1
  local own = tonumber(redis.call('ZSCORE', TURNS, group))
  if own and priority_of(own) == priority then score = math.max(score, own) end
  redis.call('ZADD', LINE, whole(score), group)
  -- Who would stand before the head by now stands no worse than one that is new.
  redis.call('ZREMRANGEBYSCORE', TURNS, score_of(priority, 0), whole(head))
end

local function enter_group(id, group, score)
  if not knows_groups() then
    redis.call('HSET', META, 'grouped', '1')
    grouped = true
  end
  redis.call('ZADD', GROUP .. group, score, id)
  redis.call('ZADD', GROUPED, score, id)
  local standing_at = redis.call('ZSCORE', LINE, group)
  if standing_at then
    if priority_of(standing_at) > priority_of(score) then join_line(group, priority_of(score)) end
  elseif not redis.call('ZSCORE', PARKED, group) then
    join_line(group, priority_of(score))
  end
end

local function to_waiting(id, priority, place, group)
  if group == '' and not knows_groups() then
    redis.call('ZADD', WAITING, score_of(priority, place), id)
  else
    enter_group(id, group, score_of(priority, place))
  end
end

-- A group's first job has changed: it may stand in line with another priority, or no longer.
local function set_in_line(group)
  local first = redis.call('ZRANGE', GROUP .. group, 0, 0, 'WITHSCORES')
  if not first[2] then
    redis.call('ZREM', LINE, group)
    redis.call('ZREM', PARKED, group)
    forget_turns()
    return
  end
  local priority = priority_of(first[2])
  join_line(group, priority)
end

-- A group took its turn, and stands behind all that stood in line with it.
local function end_turn(group, turn)
  local priority = priority_of(turn)
  redis.call('HSET', META, last_turn(priority), turn)
  local first = redis.call('ZRANGE', GROUP .. group, 0, 0, 'WITHSCORES')
  if first[2] and priority_of(first[2]) == priority then
    redis.call('ZADD', LINE, whole(tonumber(turn) + TURN), group)
  else
    redis.call('ZADD', TURNS, whole(tonumber(turn) + TURN), group)
    if first[2] then join_line(group, priority_of(first[2])) else forget_turns() end
  end
end

local function leave_waiting(id, group)
  if redis.call('ZREM', WAITING, id) == 1 or not knows_groups() then return end
  redis.call('ZREM', GROUPED, id)
  redis.call('ZREM', GROUP .. group, id)
  local turn = redis.call('ZSCORE', LINE, group)
  if turn then
    local first = redis.call('ZRANGE', GROUP .. group, 0, 0, 'WITHSCORES')
    if not first[2] or priority_of(first[2]) ~= priority_of(turn) then set_in_line(group) end
  elseif redis.call('EXISTS', GROUP .. group) == 0 then
    redis.call('ZREM', PARKED, group)
    forget_turns()
  end
end

-- Let a group stand in line again.
local function unpark(group)
  if redis.call('ZREM', PARKED, group) == 1 then set_in_line(group) end
end

local function count_waiting()
  local count = redis.call('ZCARD', WAITING)
  return knows_groups() and count + redis.call('ZCARD', GROUPED) or count
end

local function has_waiting()
  return redis.call('EXISTS', WAITING) == 1 or (knows_groups() and redis.call('EXISTS', LINE) == 1)
end
