-- Names of keys, and how a job is stored.
--
-- A job is a hash. Three fields are always there; few and packed ones, since each field and each call costs:
--   s   how it stands: state, time (delayed: due; finished: finished), request that leased it, flags (c: cancel was
--       requested, k: there is a checkpoint), lease number (the fencing token), attempts made, stalls since the last
--       progress, lease that was ended last by a retry or a hand-back, start of the last attempt, worker; parted by a space.
--       'waiting' alone stands for a job that never ran. What the end of a run leaves as it is comes last, in one piece.
--   i   what it is: 'p' for a plain job, 'x' for one with a rule of its own for keeping it, a group, a key or a flow; then by
--       lines name, priority, added at, most stalls allowed, keep for at most (ms), group, deduplication
--       (mode, window, key), flow, options as JSON
--   d   body: the call
-- Others as they are needed:
--   r   result, JSON                       e  error, JSON               at attempts that ended, JSON lines
--   g   progress, JSON                     pm furthest progress so far  ck checkpoint
--   D:<id>  on failure: what it waits for  dn how many they are         R:<id> how one of them ended, JSON
--   fx  by lines: on failure, job that runs after it                    bd delay and run-at for when it waits no more
--
-- All times are milliseconds of the server's clock.

-- KEYS[1] is the queue's "meta" key; every other key shares its hash tag.
local P = string.sub(KEYS[1], 1, -5)
local META = KEYS[1]
local JOB = P .. 'job:'
local LOG = P .. 'log:'
local WAITING = P .. 'waiting'
local DELAYED = P .. 'delayed'
local BLOCKED = P .. 'blocked'
local ACTIVE = P .. 'active'
local EVENTS = P .. 'events'
local EXPIRES = P .. 'expires'
local OUTBOX = P .. 'outbox'
local WAKE = P .. 'wake'

local EVENTS_KEPT = 10000 -- entries; each holds up to EVENTS_TOGETHER
local EVENTS_TOGETHER = 32
local ATTEMPTS_KEPT = 20

local function server_us()
  local t = redis.call('TIME')
  return t[1] * 1000000 + t[2]
end

local function server_ms()
  return math.floor(server_us() / 1000)
end

-- A whole number in digits: Lua's own conversion keeps 14 of them only.
local function whole(number)
  return string.format('%.0f', number)
end

local STANDING = '^(%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+)$'

-- How a job stands, as a table; nil for a job that is not there.
local function standing(s)
  if not s then return nil end
  local state, at, rq, flags, l, a, t, lf, sa, w = string.match(s, STANDING)
  if not state then
    return {state = s, l = '0', a = '0', t = '0', lf = '0', at = '0', sa = '0', w = '-', rq = '-', flags = '-'}
  end
  return {state = state, l = l, a = a, t = t, lf = lf, at = at, sa = sa, w = w, rq = rq, flags = flags}
end

local function stand(f)
  return table.concat({f.state, f.at, f.rq, f.flags, f.l, f.a, f.t, f.lf, f.sa, f.w}, ' ')
end

local function has_flag(flags, flag)
  return string.find(flags, flag, 1, true) ~= nil
end

local function with_flag(flags, flag)
  if has_flag(flags, flag) then return flags end
  return flags == '-' and flag or flags .. flag
end

local function without_flag(flags, flag)
  if flags == '-' then return flags end
  flags = string.gsub(flags, flag, '')
  return flags == '' and '-' or flags
end

local IDENTITY = '^(.)([^\n]*)\n([^\n]*)\n([^\n]*)\n([^\n]*)\n([^\n]*)\n([^\n]*)\n([^\n]*)\n([^\n]*)\n(.*)$'

-- What a job is, as a table.
local function identity(i)
  local mark, name, priority, added, ms, keep, group, dedupe, flow, options = string.match(i, IDENTITY)
  return {mark = mark, name = name, priority = priority, added = added, ms = ms, keep = keep, group = group, dedupe = dedupe,
    flow = flow, options = options}
end

local function name_of(i)
  return string.match(i, '^.([^\n]*)')
end

-- Neither kept by its own rule nor in a group nor with a key nor in a flow: nearly all jobs.
local function is_plain(i)
  return string.byte(i) == 112 -- p
end

local events, event_count = {}, 0

-- Events are written together, many an entry: an entry costs more than all that is in it.
local function flush_events()
  if event_count > 0 then
    redis.call('XADD', EVENTS, 'MAXLEN', '~', EVENTS_KEPT, '*', 'b', table.concat(events, '\n', 1, event_count))
    event_count = 0
  end
end

-- To be followed by flush_events before the script ends. No value may hold a tab or a line's end; JSON never does.
local function emit_line(line)
  event_count = event_count + 1
  events[event_count] = line
  if event_count == EVENTS_TOGETHER then flush_events() end
end

local function emit(event, id, ...)
  emit_line(table.concat({event, id, ...}, '\t'))
end

-- An error for an event: tracebacks stay with the job, or ten thousand events could weigh more than all jobs.
local function brief(error)
  local ok, full = pcall(cjson.decode, error)
  if not ok or type(full) ~= 'table' then return '{}' end
  local message = tostring(full.message or '')
  if #message > 500 then
    -- never in the middle of a character
    message = string.gsub(string.sub(message, 1, 500), '[\192-\255][\128-\191]*$', '') .. '…'
  end
  return cjson.encode({type = full.type, code = full.code, retryable = full.retryable, message = message})
end

-- A server that is out of memory refuses a script whose first write could need some. Removing never does; for what makes
-- room in the end, or must be told.
local function write_even_when_full()
  redis.call('DEL', P .. 'none')
end

-- The level that idle workers block on: one element while there is something to fetch. It is a level and not a
-- count, so that it cannot grow, and whoever takes it without emptying the queue puts it back.
local function arm_wake()
  if redis.call('LLEN', WAKE) == 0 then
    write_even_when_full()
    redis.call('RPUSH', WAKE, '1')
  end
end

local function is_paused()
  return redis.call('HEXISTS', META, 'paused') == 1
end
