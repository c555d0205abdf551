-- ARGV: shift, run, operation. Returns "1". Locks are no keys of the channel.

local op = ARGV[3]
local before = answered(op)
if before then return before end
for _, name in ipairs(call('SMEMBERS', extra)) do call('UNLINK', name) end
call('UNLINK', ch, extra)
return answer(op, '1')
