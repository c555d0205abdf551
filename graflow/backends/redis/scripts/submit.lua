-- Begin a run, once. ARGV: shift, budget, what is asked, inputs as they lie in the channel (flat).
--
-- This script refuses to run on a full server: its first write is one that needs memory.

local a = unpacked(ARGV[3])
local id, digest, token, start, continues, max_steps, timeout, inbox, keep, inputs, if_exists, limit =
  a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10], a[11], a[12]
local key = P .. 'run:' .. id

local function watch(r_key)
  local f = call('HMGET', r_key, 'watch', 'st', 'v')
  local list = f[1] and unpacked(f[1]) or {}
  for _, known in ipairs(list) do
    if known == inbox then return end
  end
  list[#list + 1] = inbox
  call('HSET', r_key, 'watch', pack(list))
end

local known = call('HMGET', key, 'st', 'digest', 'inputs', 'token', 'v')
if known[1] then
  if known[4] == token then return { 'created', known[1], unpacked(known[5])[GENERATION] } end -- the reply was lost
  if known[2] ~= a[14] then return { 'other plan' } end
  if known[3] ~= inputs then return { 'other inputs' } end
  if if_exists == 'error' then return { 'exists' } end
  if not (if_exists == 'rerun_failed' and (known[1] == 'failed' or known[1] == 'cancelled')) then
    if inbox ~= '' then watch(key) end
    return { 'attached' }
  end
end
if call('HEXISTS', P .. 'plan:' .. digest, 'head') == 0 then return { 'no plan' } end
if limit > 0 then
  local waiting = call('ZCARD', P .. 'delayed')
  for _, stream in ipairs(call('SMEMBERS', P .. 'streams')) do
    local pending = redis.pcall('XPENDING', P .. 'q:' .. stream, 'g')
    waiting = waiting + call('XLEN', P .. 'q:' .. stream) - (pending.err and 0 or pending[1])
  end
  if waiting >= limit then return { 'full', waiting } end
end

if known[1] then
  for _, name in ipairs({ 'own:', 'ch:' }) do
    local set = name == 'ch:' and P .. 'chx:' .. id or P .. 'own:' .. id
    for _, extra in ipairs(call('SMEMBERS', set)) do call('UNLINK', extra) end
    call('UNLINK', set)
  end
  for _, name in ipairs({ 'run:', 'res:', 'ev:', 'ch:', 'failed:' }) do call('UNLINK', P .. name .. id) end
end

local v = {}
for i = 1, 20 do v[i] = 0 end
local r = M.create(id, digest, v)
local head = M.head(r)
v[PLANNED], v[NEXT] = head[1], head[1]
v[STEP_LIMIT], v[LIMIT_GIVEN] = max_steps > 0 and max_steps or head[1] + head[6], max_steps > 0 and 1 or 0
v[CONTINUE], v[GENERATION], v[KEEP], v[ALIKE] = continues, M.now(), keep, head[8]
if known[1] then -- the messages of the run before may still be about
  v[GENERATION] = v[GENERATION] + 1
end
write(r, 'st', 'r')
write(r, 'plan', digest)
write(r, 'digest', a[14])
write(r, 'inputs', inputs)
write(r, 'token', token)
write(r, 'created', M.now())
write(r, 'timeout', timeout)
if inbox ~= '' then write(r, 'watch', pack({ inbox })) end
call('HINCRBY', r.plan, 'runs', 1)
call('PERSIST', r.plan)
tell(r, 'run_started', RUN, 0)
local top = M.scope(r, RUN)
touch(top).o = head[4] - head[3] + 1

-- start=: what its forward edges do not reach begins as skipped (3).
local function begin_at(n)
  local reach = M.downstream(r, n)
  for node = head[3], head[4] do
    if not reach[node] then
      M.mark(r, node, SKIPPED)
      local rec = M.rec(r, node)
      if rec[KIND] == 1 then M.pass_over_members(r, M.scope(r, node), SKIPPED) end
      local back = {}
      for _, k in ipairs(rec[AROUND] or {}) do
        local loop = M.loop_rec(r, k)
        for i = 1, #loop[OF_LOOP.BACK], 2 do back[loop[OF_LOOP.BACK][i]] = true end
      end
      each_out(rec, function(e, target)
        if back[e] then return end
        for _, k in ipairs(rec[AROUND] or {}) do
          local body = M.loop_rec(r, k)[OF_LOOP.BODY]
          if not within(body, target) then
            for other in pairs(reach) do
              if within(body, other) then return end
            end
          end
        end
        M.rule_out(r, e, target)
      end)
    end
  end
  for k = 0, head[5] - 1 do
    local loop = M.loop(r, k)
    if loop.d.o == 0 then push(r.drained, loop.order) end
  end
  M.visit(r, n)
end

if start >= 0 then begin_at(start) else M.enter_scope(r, top) end
touch(top).e = 1
M.settle_down(r)
r.worked = true
if timeout > 0 and not r.ended then
  write(r, 'overdue', 'the run did not end within ' .. a[13] .. ' s')
  set_due('deadlines', id, M.now() + timeout)
end
carry_out()
if #ARGV > 3 then
  local values = {}
  for i = 4, #ARGV do values[#values + 1] = ARGV[i] end
  many('HSET', P .. 'ch:' .. id, values)
end
write_back()
settle_streams({})
if r.ended then call('EXPIRE', P .. 'ch:' .. id, keep) end
return { 'created', r.st, v[GENERATION] }
