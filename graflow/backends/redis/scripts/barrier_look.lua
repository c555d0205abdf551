-- ARGV: group. Returns {birth, 1 if it is open, else 0}; nothing if there is no such barrier.

local P, call = KEYS[1], redis.call
local key = P .. 'bar:' .. ARGV[1]
local known = call('HMGET', key, 'parties', 'birth', 'arrived')
if not known[1] then return false end
call('EXPIRE', key, 86400)
return { known[2], tonumber(known[3]) >= tonumber(known[1]) and 1 or 0 }
