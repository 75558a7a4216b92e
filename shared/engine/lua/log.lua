-- Append to a running job's log.
--
-- KEYS[1]  meta
-- ARGV     id, token, line as JSON, lines kept
-- Returns  1, -1 lease lost (nothing was stored)

-- include: lib/job.lua

local f = standing(redis.call('HGET', JOB .. ARGV[1], 's'))
if not f or f.state ~= 'active' or f.l ~= ARGV[2] then return -1 end
local line = string.sub(ARGV[3], 1, -2) .. ',"at_ms":' .. server_ms() .. '}'
redis.call('RPUSH', LOG .. ARGV[1], line)
redis.call('LTRIM', LOG .. ARGV[1], -tonumber(ARGV[4]), -1)
return 1
