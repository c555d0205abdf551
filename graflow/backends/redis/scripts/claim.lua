-- What a blocking read has brought, and what else there is, made ready to run. ARGV: shift, budget, entries, consumer, what is wanted,
-- and "1" when the entries are read again after a reply was lost: they were counted then.
--
-- Sent again because the reply was lost, it hands out the same entries once more, and counts them no more.
--
-- A read that brought something found the streams empty from which it brought nothing: they are not looked at again, the next read does that.

local consumer, wanted = ARGV[4], ARGV[5]
local out = { consumer = consumer, deliveries = {}, continuations = {}, odd = {} }
local emptied, brought, brought_from, woken = {}, 0, {}, false
local entries, again = unpacked(ARGV[3]), ARGV[6] == '1'
if #entries > 0 and not again then
  again = not redis.pcall('SET', P .. 'once:' .. entries[1][1] .. '/' .. entries[1][2], 1, 'EX', 60, 'NX')
end

local due = promote()
carry_out()
for _, e in ipairs(entries) do
  if e[1] == '!tick' then
    woken = true
    call('XACK', P .. 'tick', 'g', e[2])
    call('XDEL', P .. 'tick', e[2])
  else
    brought, brought_from[e[1]] = brought + 1, true
    take_entry(e[1], { e[2], { e[3], e[4] } }, again, out)
  end
end
if brought > 0 and not again then call('HINCRBY', P .. 'counts', 'fetched', brought) end
if wanted ~= '' then
  fetch(consumer, unpacked(wanted), out, function(stream) return brought == 0 or woken or brought_from[stream] or added[stream] end)
end
write_back()
delete_dropped(emptied)
settle_streams(emptied)
return { {}, out.deliveries, out.continuations, out.odd, due, told_to_stop }
