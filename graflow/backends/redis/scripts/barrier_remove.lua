-- ARGV: run, group, operation. Returns "1".

local op = ARGV[3]
if answered(op) then return '1' end
local birth = call('HGET', key, 'birth')
if birth then
  call('DEL', key)
  if run ~= '' then call('SREM', P .. 'chx:' .. run, key) end
  tell('0', birth)
  answer(op, '1')
end
return '1'
