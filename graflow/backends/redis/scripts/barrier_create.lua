-- ARGV: run, group, operation, parties. Returns how many parties it has, also if that is another number; or {state of the run}, when it is not running.

local op, parties = ARGV[3], ARGV[4]
local before = answered(op)
if before then return before end
if state ~= 'r' then return { state } end
if call('HSETNX', key, 'parties', parties) == 1 then call('HSET', key, 'arrived', 0, 'birth', op) end
touch()
return answer(op, call('HGET', key, 'parties'))
