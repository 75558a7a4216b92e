-- Names of keys, and the fields of a job's hash.
--
--   n  name of the job type or actor      d  body: the call            o  options as given, JSON
--   s  state                              p  priority                  ms most stalls allowed (when not the default)
--   ca added at                           da due at (delayed)          sa start of the last attempt
--   fa finished at                        a  attempts made             t  stalls since the last progress
--   l  lease number, the fencing token    w  worker                    rq request that leased it
--   lf lease that was ended last by a retry or a hand-back
--   c  cancel was requested               g  progress, JSON            pm furthest progress so far
--   r  result, JSON                       e  error, JSON               at attempts that ended, JSON lines
--   ck checkpoint (cf: there is one)      k  keep for at most, ms
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
local WAKE = P .. 'wake'

local EVENTS_KEPT = 10000
local ATTEMPTS_KEPT = 20

local function server_ms()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

local function emit(event, id, ...)
  redis.call('XADD', EVENTS, 'MAXLEN', '~', EVENTS_KEPT, '*', 'e', event, 'j', id, ...)
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

-- The level that idle workers block on: one element while there is something to fetch. It is a level and not a
-- count, so that it cannot grow, and whoever takes it without emptying the queue puts it back.
local function arm_wake()
  if redis.call('LLEN', WAKE) == 0 then
    -- A server that is out of memory refuses a script whose first write could need some; removing never does.
    redis.call('DEL', WAKE)
    redis.call('RPUSH', WAKE, '1')
  end
end

local function is_paused()
  return redis.call('HEXISTS', META, 'paused') == 1
end
