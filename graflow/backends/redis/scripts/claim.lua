-- What a blocking read has brought, and what else there is, made ready to run. ARGV: shift, budget, entries, consumer, what is wanted,
-- and "1" when the entries are read again after a reply was lost: they were counted then.

local consumer, wanted = ARGV[4], ARGV[5]
local out = { deliveries = {}, continuations = {}, odd = {} }
local emptied, brought = {}, 0

local due = promote()
carry_out()
for _, e in ipairs(unpacked(ARGV[3])) do
  if e[1] == '!tick' then
    call('XACK', P .. 'tick', 'g', e[2])
    call('XDEL', P .. 'tick', e[2])
  else
    brought = brought + 1
    take_entry(e[1], { e[2], { e[3], e[4] } }, ARGV[6] == '1', out)
  end
end
if brought > 0 and ARGV[6] ~= '1' then call('HINCRBY', P .. 'counts', 'fetched', brought) end
if wanted ~= '' then fetch(consumer, unpacked(wanted), out) end
write_back()
delete_dropped(emptied)
settle_streams(emptied)
return { {}, out.deliveries, out.continuations, out.odd, due, told_to_stop }
