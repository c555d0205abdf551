-- ARGV: operation, group, party. Returns "1" for the party that opens the barrier, else "0"; nothing if there is no such barrier.

local P, call = KEYS[1], redis.call
local op, group, party = ARGV[1], ARGV[2], ARGV[3]
local once, key = P .. 'once:' .. op, P .. 'bar:' .. group
local before = call('GET', once)
if before then return before end
local known = call('HMGET', key, 'parties', 'birth')
if not known[1] then return false end
local opened = '0'
if call('HSETNX', key, 'p:' .. party, 1) == 1 and call('HINCRBY', key, 'arrived', 1) == tonumber(known[1]) then
  opened = '1'
  call('PUBLISH', P .. 'door:' .. group, '1' .. known[2])
end
call('EXPIRE', key, 86400)
call('SET', once, opened, 'PX', 60000)
return opened
