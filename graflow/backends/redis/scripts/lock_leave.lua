-- Give the lock up, or the place in the line. ARGV: shift, run, name, token. Returns "1" if the token held it up to now, else "0".

local before = call('GET', left)
if before then return before end
local held = '0'
if holder == token then
  if not offered and ends > now then held = '1' end
  pass_on()
else
  call('ZREM', line, token)
end
call('SET', left, held, 'PX', REMEMBERED)
return held
