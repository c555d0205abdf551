-- What cannot even be read goes to the dead letters. ARGV: shift, budget, stream, id, reason.

local stream, id, reason = ARGV[3], ARGV[4], ARGV[5]
local key = P .. 'q:' .. stream
local entry = call('XRANGE', key, id, id)[1]
if call('XACK', key, 'g', id) == 0 then return 0 end
if entry then
  call('XDEL', key, id)
  bury(reason, stream, '', '', entry[2])
  call('HINCRBY', P .. 'counts', 'unreadable', 1)
end
settle_streams({ [stream] = true })
return 1
