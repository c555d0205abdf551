-- Put a number in the place of another, if that is still there. ARGV: shift, run, operation, key, what should be there ("" for nothing), what to put
-- there, marks included. Returns the number as the codec's bytes; or {"large", what is there instead}.

local op, key, expected, field = ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local before = answered(op)
if before then return before end
lapse(key)

local found = call('HGET', ch, key)
if (found or '') ~= expected then return { 'large', found } end
call('HSET', ch, key, field)
keep_no_longer()
announce(key)
return answer(op, sub(field, 2))
