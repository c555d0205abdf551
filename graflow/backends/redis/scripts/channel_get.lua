-- ARGV: shift, run, key. Returns the state of the run, what is under the key, and the elements of its list.

local key = ARGV[3]
lapse(key)
local field = call('HGET', ch, key)
return { state, field, is_list(field) and call('LRANGE', list_of(key), 0, -1) or {} }
