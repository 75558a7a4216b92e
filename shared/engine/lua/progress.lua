-- Store how far a running job is.
--
-- KEYS[1]  meta
-- ARGV     id, token, percent, progress as JSON
-- Returns  1 held, 2 held and somebody asked to cancel it, -1 lease lost (nothing was stored)

-- include: lib/job.lua

local id = ARGV[1]
local key = JOB .. id
local f = redis.call('HMGET', key, 's', 'l', 'c', 'pm', 'n')
if f[1] ~= 'active' or f[2] ~= ARGV[2] then return -1 end
local text = string.sub(ARGV[4], 1, -2) .. ',"at_ms":' .. server_ms() .. '}'
redis.call('HSET', key, 'g', text)
-- Getting further than ever before clears the stalls; repeating the way to the place of death does not, or a job that
-- kills its worker at 50 % would never be found out.
if tonumber(ARGV[3]) > tonumber(f[4] or '0') then
  redis.call('HSET', key, 'pm', ARGV[3], 't', 0)
end
emit('progress', id, 'n', f[5], 'g', text)
return f[3] and 2 or 1
