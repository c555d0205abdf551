-- ARGV: shift, run, operation, key. Returns "1" if it was there, else "0".

local op, key = ARGV[3], ARGV[4]
local before = answered(op)
if before then return before end
lapse(key)
if remove({ key }) == 0 then return '0' end -- nothing happened, so it may happen again
return answer(op, '1')
