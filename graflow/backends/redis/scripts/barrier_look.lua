-- ARGV: run, group. Returns {birth, 1 if it is open, else 0}; "" if there is no such barrier; or {state of the run}, when it is not running.

if state ~= 'r' then return { state } end
local known = call('HMGET', key, 'parties', 'birth', 'arrived')
if not known[1] then return '' end
touch()
return { known[2], tonumber(known[3]) >= tonumber(known[1]) and 1 or 0 }
