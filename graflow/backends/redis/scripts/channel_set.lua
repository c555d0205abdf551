-- ARGV: shift, run, operation, key, mark and value, time to live in milliseconds or "". Returns "1".

local op, key, field, ttl = ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local before = answered(op)
if before then return before end
lapse(key)

call('HSET', ch, key, field)
local list = list_of(key)
if call('UNLINK', list) == 1 then call('SREM', extra, list) end
if ttl == '' then
  live_on({ key })
else
  call('ZADD', cht, string.format('%.0f', now() + tonumber(ttl)), key)
  call('SADD', extra, cht)
end
keep_no_longer()
announce(key)
return answer(op, '1')
