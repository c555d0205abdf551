-- Dead letters are dropped. ARGV: id of the operation, how many at most, and either "id" and the id of one or "until" and a time in milliseconds:
-- the oldest go first. Returns how many it were, also when it is sent again. The first writes are such as a full server allows.

local P, call = KEYS[1], redis.call
local said = call('GET', P .. 'once:' .. ARGV[1])
if said then return tonumber(said) end
local ids = ARGV[3] == 'id' and { ARGV[4] } or call('ZRANGEBYSCORE', P .. 'dlq', '-inf', ARGV[4], 'LIMIT', 0, ARGV[2])
if #ids == 0 then return 0 end
local number = call('ZREM', P .. 'dlq', unpack(ids))
call('HDEL', P .. 'dlq:items', unpack(ids))
if number > 0 then call('SET', P .. 'once:' .. ARGV[1], number, 'EX', 60) end
return number
