-- ARGV: operation, group. Returns "1".

local P, call = KEYS[1], redis.call
local op, group = ARGV[1], ARGV[2]
local once, key = P .. 'once:' .. op, P .. 'bar:' .. group
if call('EXISTS', once) == 1 then return '1' end
local birth = call('HGET', key, 'birth')
if birth then
  call('DEL', key)
  call('PUBLISH', P .. 'door:' .. group, '0' .. birth)
  call('SET', once, '1', 'PX', 60000)
end
return '1'
