-- Store how far a running job is.
--
-- KEYS[1]  meta
-- ARGV     id, token, percent, progress as JSON
-- Returns  1 held, 2 held and somebody asked to cancel it, -1 lease lost (nothing was stored)

-- include: lib/job.lua

local id = ARGV[1]
local key = JOB .. id
local stored = redis.call('HMGET', key, 's', 'i', 'pm')
local f = standing(stored[1])
if not f or f.state ~= 'active' or f.l ~= ARGV[2] then return -1 end
local text = string.sub(ARGV[4], 1, -2) .. ',"at_ms":' .. server_ms() .. '}'
redis.call('HSET', key, 'g', text)
-- Getting further than ever before clears the stalls; repeating the way to the place of death does not, or a job that
-- kills its worker at 50 % would never be found out.
if tonumber(ARGV[3]) > tonumber(stored[3] or '0') then
  f.t = '0'
  redis.call('HSET', key, 'pm', ARGV[3], 's', stand(f))
end
emit('progress', id, 'n', name_of(stored[2]), 'g', text)
flush_events()
return has_flag(f.flags, 'c') and 2 or 1
