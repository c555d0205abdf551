-- Put a message of one's own in line. ARGV: shift, budget, stream, message, delay in ms, limit (0 for none), id of the operation.

local stream, text, wait, limit = ARGV[3], ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])
if call('EXISTS', P .. 'once:' .. ARGV[7]) == 1 then return 1 end
if limit > 0 then
  local waiting = call('ZCARD', P .. 'delayed')
  for _, name in ipairs(call('SMEMBERS', P .. 'streams')) do
    local pending = redis.pcall('XPENDING', P .. 'q:' .. name, 'g')
    waiting = waiting + call('XLEN', P .. 'q:' .. name) - (pending.err and 0 or pending[1])
  end
  if waiting >= limit then return -1 end
end
call('SET', P .. 'once:' .. ARGV[7], 1, 'EX', 60)
if wait > 0 then
  -- The number keeps two equal messages apart, and the order of those that are due together.
  local number = string.format('%012d', call('HINCRBY', P .. 'counts', 'delayed', 1))
  set_due('delayed', stream .. '\n\1' .. number .. text, M.now() + wait)
  call('HINCRBY', P .. 'counts', 'enqueued', 1)
else
  call('XADD', P .. 'q:' .. stream, '*', 't', text)
  added[stream] = 1
  settle_streams({})
end
return 1
