-- Delete whatever is left of a queue, a part at a time.
--
-- KEYS[1]  meta
-- ARGV     where to go on ('0' for the beginning), pattern of its keys
-- Returns  where to go on, '0' at the end

local prefix = string.sub(KEYS[1], 1, -5)
local reply = redis.call('SCAN', ARGV[1], 'MATCH', ARGV[2], 'COUNT', 1000)
for n = 1, #reply[2] do
  if string.sub(reply[2][n], 1, #prefix) == prefix then redis.call('UNLINK', reply[2][n]) end
end
return reply[1]
