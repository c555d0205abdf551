-- ARGV: run, group, operation, party. Returns "1" for the party that opens the barrier, else "0"; "" if there is no such barrier; or {state of the run},
-- when it is not running.

local op, party = ARGV[3], ARGV[4]
local before = answered(op)
if before then return before end
if state ~= 'r' then return { state } end
local known = call('HMGET', key, 'parties', 'birth')
if not known[1] then return '' end
local opened = '0'
if call('HSETNX', key, 'p:' .. party, 1) == 1 and call('HINCRBY', key, 'arrived', 1) == tonumber(known[1]) then
  opened = '1'
  tell('1', known[2])
end
touch()
return answer(op, opened)
