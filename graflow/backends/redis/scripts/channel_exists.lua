-- ARGV: shift, run, key. Returns 1 or 0.

local key = ARGV[3]
lapse(key)
return call('HEXISTS', ch, key)
