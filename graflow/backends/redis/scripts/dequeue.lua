-- Take messages of one's own off the line, for good. ARGV: shift, budget, consumer, what is wanted.

local found, emptied = {}, {}
promote()
carry_out()
local function take_one(stream, most)
  local key = P .. 'q:' .. stream
  local reply = redis.pcall('XREADGROUP', 'GROUP', 'g', ARGV[3], 'COUNT', most, 'STREAMS', key, '>')
  if not reply or reply.err then return 0 end
  for _, entry in ipairs(reply[1][2]) do
    found[#found + 1] = { stream, entry[1], entry[2][1], entry[2][2] }
    call('XACK', key, 'g', entry[1])
    call('XDEL', key, entry[1])
    emptied[stream] = true
  end
  return #reply[1][2]
end
for _, handler in ipairs(unpacked(ARGV[4])) do
  local left = handler[1]
  for _, stream in ipairs(handler[3] or {}) do
    local got = take_one(stream, 1)
    left = left - got
    if got > 0 then break end
  end
  for _, stream in ipairs(handler[2]) do
    if left <= 0 then break end
    left = left - take_one(stream, left)
  end
end
if #found > 0 then call('HINCRBY', P .. 'counts', 'fetched', #found) end
write_back()
settle_streams(emptied)
return found
