-- Append to a running job's log.
--
-- KEYS[1]  meta
-- ARGV     id, token, line as JSON, lines kept
-- Returns  1, -1 lease lost (nothing was stored)

-- include: lib/job.lua

local f = redis.call('HMGET', JOB .. ARGV[1], 's', 'l')
if f[1] ~= 'active' or f[2] ~= ARGV[2] then return -1 end
local line = string.sub(ARGV[3], 1, -2) .. ',"at_ms":' .. server_ms() .. '}'
redis.call('RPUSH', LOG .. ARGV[1], line)
redis.call('LTRIM', LOG .. ARGV[1], -tonumber(ARGV[4]), -1)
return 1
