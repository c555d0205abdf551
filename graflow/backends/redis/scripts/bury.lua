-- What cannot be read goes to the dead letters, and the step that it was for fails in the same step. ARGV: shift, budget, stream, id, reason.
--
-- Which step that was stands beside the message. A message of a later version says so too: what its first fields mean does not change.

local stream, id, reason = ARGV[3], ARGV[4], ARGV[5]
local key = P .. 'q:' .. stream

-- run, generation, node, cycle, attempt
local function step_of(fields)
  for i = 3, #fields, 2 do
    if fields[i] == 'w' then
      local n, cycle, attempt, generation, run = string.match(fields[i + 1], '^(%-?%d+):?(%d*):?(%d*) (%d+) (.+)$')
      if run then return run, tonumber(generation), tonumber(n), tonumber(cycle) or 1, tonumber(attempt) or 1 end
    end
  end
  local known, m = pcall(unpacked, fields[2])
  if reason ~= 'newer_protocol' or not known or type(m) ~= 'table' or type(m[2]) ~= 'string' then return nil end
  for i = 4, 7 do
    if type(m[i]) ~= 'number' then return nil end
  end
  return m[2], m[4], m[5], m[6], m[7]
end

local function fail_step(run, generation, n, cycle, attempt)
  local r = run and M.load(run)
  if not r or r.v[GENERATION] ~= generation or M.is_over(r) then return end
  r.stream, r.worked = stream, true
  if n == CONTINUATION then -- all that it had to say is that there is something to go on with
    r.v[CONTINUING], r.v[OUT] = 0, r.v[OUT] - 1
  elseif M.is_running(r, n, cycle, attempt) then
    r.v[OUT] = r.v[OUT] - 1
    M.fail(r, n, { 0, 'm', reason, 0, attempt })
  end
  M.settle_down(r)
end

local entry = call('XRANGE', key, id, id)[1]
if call('XACK', key, 'g', id) == 0 then return 0 end
if entry then
  call('XDEL', key, id)
  bury(reason, stream, '', '', entry[2])
  call('HINCRBY', P .. 'counts', 'unreadable', 1)
  fail_step(step_of(entry[2]))
end
carry_out()
write_back()
settle_streams({ [stream] = true })
return 1
