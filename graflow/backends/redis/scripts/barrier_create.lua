-- ARGV: operation, group, parties. Returns "1". KEYS[1] is the partition's prefix.
--
-- hash bar:<group>: parties (how many open it), arrived (how many there are), birth (tells it from others of that name), p:<party> for each that is there.
-- Messages on door:<group>: "1<birth>" it is open, "0<birth>" it has been removed.

local P, call = KEYS[1], redis.call
local op, group, parties = ARGV[1], ARGV[2], ARGV[3]
local once, key = P .. 'once:' .. op, P .. 'bar:' .. group
if call('EXISTS', once) == 1 then return '1' end
if call('HSETNX', key, 'parties', parties) == 1 then call('HSET', key, 'arrived', 0, 'birth', op) end
call('EXPIRE', key, 86400)
call('SET', once, '1', 'PX', 60000)
return '1'
