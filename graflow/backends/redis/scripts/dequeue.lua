-- Take messages of one's own off the line, for good. ARGV: shift, budget, consumer, what is wanted, id of the operation.
--
-- What was taken is remembered for a while: sent again because the reply was lost, it gives the same.

local once = P .. 'once:' .. ARGV[5]
local before = call('GET', once)
if before then return unpacked(before) end
local found, emptied = {}, {}
promote()
carry_out()
local function take_one(stream, most)
  local key = P .. 'q:' .. stream
  local entries = next_entries(stream, ARGV[3], most)
  for _, entry in ipairs(entries) do
    found[#found + 1] = { stream, entry[1], entry[2][1], entry[2][2] }
    call('XACK', key, 'g', entry[1])
    call('XDEL', key, entry[1])
    emptied[stream] = true
  end
  return #entries
end
serve(unpacked(ARGV[4]), take_one)
write_back()
settle_streams(emptied)
if #found > 0 then call('SET', once, pack(found), 'EX', 60) end
return found
