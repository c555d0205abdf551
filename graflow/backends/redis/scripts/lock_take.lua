-- Take the lock, or a place in the line. ARGV: shift, run, name, token, time to live in milliseconds, ticket ("" to take it only if it is free, "-" if
-- there will be no second try).
-- Returns {"held"}; {"busy", ticket} without a ticket; {"wait", milliseconds until the holder loses it, place in the line} with one; {"over"} if the run
-- has ended and there is nothing to wait for; nothing if there is no such run.

local ttl, ticket = tonumber(ARGV[5]), ARGV[6]
local state = call('HGET', P .. 'run:' .. run, 'st')
if not state then return false end
-- A copy of a call that was on its way until all was over.
if call('EXISTS', left) == 1 then return { 'over' } end

if not holder then
  pass_on()
elseif ends <= now and not (offered and holder == token) then
  if offered then drop_process() end
  pass_on()
end

if ticket == '' or ticket == '-' then
  if not holder then give(token, ttl, false) end
  if holder == token then return { 'held' } end
  if ticket == '-' then call('SET', left, '0', 'PX', REMEMBERED) end
  return { 'busy', string.format('%.0f', t[1] * 1000000 + t[2] + shift * 1000) }
end

if holder ~= token then
  if state ~= 'r' then
    call('ZREM', line, token)
    return { 'over' }
  end
  call('ZADD', line, 'NX', ticket, token)
  if not holder then pass_on() end
end
if holder == token then
  if offered then give(token, ttl, false) end
  return { 'held' }
end
stay(ends - now)
return { 'wait', ends - now, call('ZRANK', line, token) }
