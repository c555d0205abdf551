-- Outcomes in, the next attempts out. ARGV: shift, budget, outcomes, consumer, what is wanted, what tasks tell.
--
-- Sent again because the reply was lost, it writes nothing: every outcome was acknowledged. What it had handed out is among the consumer's own
-- pending entries, where the worker looks after every reply that was lost.
--
-- The first write is XACK, which a full server allows: what is in work must be able to drain.

local consumer, wanted = ARGV[4], ARGV[5]
local out = { consumer = consumer, deliveries = {}, continuations = {}, odd = {} }
local answers, emptied, acked = {}, {}, {}

-- Values that were written beforehand, under a name of the attempt's own and for a while: from now on the run keeps them.
local function keep_values(r, n, keys, items)
  for _, key in ipairs(keys) do
    call('PERSIST', key)
    call('SADD', P .. 'own:' .. r.id, key)
  end
  if items then write(r, 'i' .. n, items) end
end

-- 1 written, 0 it no longer counts
local function settle(o)
  local stream, id, run, generation, n, cycle, attempt, kind = o[1], o[2], o[3], o[4], o[5], o[6], o[7], o[8]
  if call('XACK', P .. 'q:' .. stream, 'g', id) == 0 then return 0 end
  acked[stream] = acked[stream] or {}
  add(acked[stream], id)
  emptied[stream] = true
  local r = M.load(run)
  if not r or r.v[GENERATION] ~= generation then return 0 end
  r.stream, r.worked = stream, true
  if kind == 'b' then -- read, but never handed out
    if M.is_running(r, n, cycle, attempt) or n == CONTINUATION and not M.is_over(r) then enqueue(stream, o[9]) end
    return 1
  end
  if n == CONTINUATION then
    if M.is_over(r) then return 0 end
    r.v[CONTINUING], r.v[OUT] = 0, r.v[OUT] - 1
    M.settle_down(r)
    return 1
  end
  r.v[LIVE] = r.v[LIVE] - 1
  if kind == 'n' then return 1 end
  if kind == 'u' then -- it cannot be run here
    if not M.is_running(r, n, cycle, attempt) then return 0 end
    M.refuse(r, n, cycle, attempt, consumer, stream, o[9], o[10], o[11])
    return 1
  end
  if kind == 'h' then -- handed back, without counting as a try
    if M.is_running(r, n, cycle, attempt) then enqueue(stream, o[9]) end
    return 1
  end
  if not M.settle(r, n, cycle, attempt, kind, o[9], o[10], o[11]) then return 0 end
  if o[12] then keep_values(r, n, o[12][1], o[12][2]) end
  return 1
end

if ARGV[6] ~= '' then tell_all(unpacked(ARGV[6])) end
for i, o in ipairs(unpacked(ARGV[3])) do answers[i] = settle(o) end
for stream, ids in pairs(acked) do many('XDEL', P .. 'q:' .. stream, ids) end
local due = -2 -- not looked after: what is known of it stays
if wanted ~= '' then due = promote() end
carry_out()
if wanted ~= '' then fetch(consumer, unpacked(wanted), out) end
write_back()
delete_dropped(emptied)
settle_streams(emptied)
return { answers, out.deliveries, out.continuations, out.odd, due, told_to_stop }
