-- All there is of a run, at one moment; of a run with many results only that it has many, as reading them all would keep the server too long.
-- ARGV: shift, how many are many.

local P, call = KEYS[1], redis.call
local run, results = P .. 'run:' .. ARGV[3], P .. 'res:' .. ARGV[3]
local t = call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000) + tonumber(ARGV[1])
if call('HLEN', results) > tonumber(ARGV[2]) then return { now, call('HGETALL', run), false } end
return { now, call('HGETALL', run), call('HGETALL', results) }
