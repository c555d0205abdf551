-- A dead letter is put back in line, once. ARGV: shift, budget, id of the letter, id of the operation.
--
-- What could not be read goes back on its stream as it was. An attempt is made good: its step, which failed for its sake, is in progress again,
-- with a new attempt. That is possible until something has been decided upon the failure; what was decided is not taken back.
--
-- The first write is one that a full server refuses.

local letter, once = ARGV[3], P .. 'once:' .. ARGV[4]

local function readable(fields)
  if #fields ~= 2 or fields[1] ~= 'm' then return nil end
  local known, m = pcall(unpacked, fields[2])
  return known and type(m) == 'table' and m[1] == 1 and #m == 9 and m or nil
end

local function done(write_what)
  call('SET', once, 1, 'EX', 60)
  write_what()
  carry_out()
  write_back()
  settle_streams({})
  forget_letters({ letter })
  return { 'done' }
end

-- Whether the step has failed with this very attempt, and nobody has drawn a conclusion from it yet.
local function is_open(r, n, cycle, attempt)
  if n < 0 or n >= r.v[NEXT] or M.status(r, n) ~= FAILED or M.cycle(r, n) ~= cycle or M.attempt(r, n) ~= attempt or in_pieces(r) and M.is_void(r, n) then return false end
  local rec = M.rec(r, n)
  if rec[KIND] == 1 or not M.is_live(r, rec[SCOPE]) or M.scope(r, rec[SCOPE]).d.j then return false end
  for _, k in ipairs(rec[AROUND] or {}) do
    if M.loop(r, k).d.x then return false end
  end
  local outs, number = rec[OUTS], 0
  for i = 1, #outs, 5 do number = number + outs[i + 1] - outs[i] + 1 end
  if number > BUDGET then return false end
  local free = true
  each_out(rec, function(e, target)
    if decision(r, e) ~= 0 and M.status(r, target) ~= WAITING then free = false end
  end)
  return free
end

local function start_again(r, n, reason)
  M.all_edges(r)
  local agenda = { first = 1 }
  for i = r.edges.first, #r.edges do
    if r.edges[i][5] ~= n then add(agenda, r.edges[i]) end
  end
  r.edges = agenda
  each_out(M.rec(r, n), function(e, target) M.undo(r, e, target) end)
  M.drop_error(r, n)
  call('ZREM', P .. 'failed:' .. r.id, n)
  local x = change(r, n)
  M.note(r, 'task_retrying', n, pack({ 0, reason, 'it is taken from the dead letters' }))
  x[EXTRA_ATTEMPT] = x[EXTRA_ATTEMPT] + 1
  M.mark(r, n, ACTIVE)
  M.take_place(r, n)
  r.worked = true
  M.settle_down(r)
end

if call('EXISTS', once) == 1 then return { 'done' } end
local item = call('HGET', P .. 'dlq:items', letter)
if not item then return { 'unknown' } end
local reason, stream, fields = unpack(unpacked(item))
local m = readable(fields)
if not m then
  return done(function()
    call('XADD', P .. 'q:' .. stream, '*', unpack(fields))
    added[stream] = 1
  end)
end
local r = M.load(m[2])
if not r then return { 'gone' } end
if r.v[GENERATION] ~= m[4] then return { 'again' } end
if M.is_over(r) then return { 'over', r.st } end
if not is_open(r, m[5], m[6], m[7]) then return { 'decided' } end
return done(function() start_again(r, m[5], reason) end)
