-- Put an element back into a list that holds at most one.
--
-- KEYS[1]  the list
-- Returns  1, or 0 when it held one already

if redis.call('LLEN', KEYS[1]) > 0 then return 0 end
redis.call('RPUSH', KEYS[1], '1')
return 1
