-- What a task asked of its run, obeyed when it settles with success: core/directives.py.
--
-- Names have been looked up in the plan by the worker, so that gotos come as numbers of nodes.

-- Directives by their strength (16): cancel, terminate, goto, then the rest.
function M.obey(r, n, value, items, asked)
  if asked.cancel then
    M.mark(r, n, CANCELLED)
    M.note(r, 'task_cancelled', n)
    return M.finish(r, 'cancelled', 'cancelled', n, asked.cancel)
  end
  if asked.terminate then
    M.record(r, n, value, items)
    return M.finish(r, 'succeeded', 'terminated', n, asked.terminate)
  end
  local new, leaves = {}, false
  for _, request in ipairs(asked.new or {}) do
    if M.may_make(r, n, request.id) then
      new[#new + 1] = request
      leaves = leaves or request.goto_ == 1
    elseif request.ignore ~= 1 then
      return M.fail(r, n, { 0, 'm', 'clash', request.id, M.attempt(r, n) })
    end
  end
  if asked.problem then return M.fail(r, n, { 0, 't', asked.problem }) end
  for _, request in ipairs(new) do M.spawn(r, n, request) end
  if #(asked.go or {}) > 0 then
    local gotos = {}
    for i, target in ipairs(asked.go) do
      gotos[#gotos + 1] = { target, n }
      if asked.reach then call('HSETNX', r.plan, 'd' .. target, pack(asked.reach[i])) end
    end
    M.record(r, n, value, items)
    M.go(r, n, gotos)
  elseif leaves then
    M.record(r, n, value, items)
    M.want_all(r, n, SKIP)
    M.release(r, n)
  elseif asked.iteration then
    M.iterate(r, n, asked.iteration)
  else
    M.record(r, n, value, items)
    M.go_on(r, n, asked.end_loop == 1)
  end
end

-- Whether a task may add one of that id: nobody else has (18).
function M.may_make(r, n, id)
  local known = M.find_made(r, id)
  if not known then return true end
  local rec = M.rec(r, known)
  return not rec.alive or rec.maker == n
end

-- A task made at run time belongs to the scope and the branch of its maker and has no edges (19).
function M.spawn(r, maker, request)
  local n = M.find_made(r, request.id)
  local alive = n and M.rec(r, n).alive
  if alive and M.status(r, n) <= ACTIVE then -- visits of one task never overlap (18)
    local s = field(r, 'A' .. n)
    local waiting = s and unpacked(s) or {}
    if #waiting == 0 then
      r.v[AGAIN] = r.v[AGAIN] + 1
      set_count(r, 'a' .. n, 1)
    end
    waiting[#waiting + 1] = request
    return write(r, 'A' .. n, pack(waiting))
  end
  if not alive then n = M.adopt(r, n, maker, request) end
  M.visit_again(r, n, request)
end

-- Give a new task a place beside its maker; it may have had another one before, in a visit that is forgotten.
function M.adopt(r, n, maker, request)
  local made_by = M.rec(r, maker)
  if not n then
    n = r.v[NEXT]
    r.v[NEXT], r.v[MADE] = n + 1, r.v[MADE] + 1
    call('HSET', r.key, 'X' .. request.id, n)
    put(r, 's', n, CANCELLED)
  end
  M.save_made(r, n, { maker, made_by[SCOPE], M.branch(made_by, maker), request.id, request.stream, request.max_cycles, request.needs, request.chain, request.task, 1 })
  local d = touch(M.scope(r, made_by[SCOPE]))
  d.d = d.d or {}
  d.d[#d.d + 1] = n
  return n
end

-- Visit a task made at run time, for the first time or once more.
function M.visit_again(r, n, request)
  local d = M.made_record(r, n)
  d[OF_MADE.STREAM], d[OF_MADE.MAX_CYCLES], d[OF_MADE.NEEDS], d[OF_MADE.CHAIN], d[OF_MADE.TASK] = request.stream, request.max_cycles, request.needs, request.chain, request.task
  M.save_made(r, n, d)
  change(r, n)[CAME_FROM] = { d[OF_MADE.MAKER] }
  M.mark(r, n, WAITING)
  add(r.visits, { n, n })
end

-- Visit the task once more; this visit stores nothing and fires nothing (20).
function M.iterate(r, n, iteration)
  M.note(r, 'iteration', n)
  M.mark(r, n, WAITING) -- its attempt is settled: should a limit end the run now, there is none to take back
  M.visit(r, n, M.extra(r, n)[CAME_FROM] or nil, iteration)
end

-- Go along the edges. end_loop skips the successors inside the innermost loop and fires those outside, once the round has drained; where
-- that loop is around the group, the group does so when it settles (9).
function M.go_on(r, n, end_loop)
  M.want_on_success(r, n)
  if end_loop then
    local rec = M.rec(r, n)
    if rec[AROUND] and #rec[AROUND] > 0 then
      local loop = M.loop(r, rec[AROUND][1])
      M.leave(loop, n)
      each_out(rec, function(e, target)
        if within(loop.rec[OF_LOOP.BODY], target) then set_want(r, e, SKIP) end
      end)
    else
      local d = touch(M.scope(r, rec[SCOPE]))
      d.l = d.l or {}
      d.l[#d.l + 1] = n
    end
  end
  M.release(r, n)
end

function M.leave(loop, n)
  local d = touch(loop)
  d.l = d.l or {}
  for _, known in ipairs(d.l) do
    if known == n then return end
  end
  d.l[#d.l + 1] = n
end

-- ---- gotos ----

local function remember_jump(r, source, target)
  if not r.jumps then
    local s = r.v[JUMPS] > 0 and field(r, 'G')
    r.jumps = s and unpacked(s) or {}
  end
  for i = 1, #r.jumps, 2 do
    if r.jumps[i] == source and r.jumps[i + 1] == target then return end
  end
  r.jumps[#r.jumps + 1], r.jumps[#r.jumps + 2] = source, target
  r.v[JUMPS] = r.v[JUMPS] + 1
  write(r, 'G', pack(r.jumps))
end

-- Go from a decided node to others, instead of along its edges (11 to 14): pairs of the target and which task went.
function M.go(r, n, gotos)
  local visit, rec, along = M.cycle(r, n), M.rec(r, n), {}
  each_out(rec, function(_, target) along[target] = true end)
  local at_once, later = {}, {}
  for _, pair in ipairs(gotos) do
    local target, source = pair[1], pair[2]
    remember_jump(r, source, target)
    local plain = not along[target] and M.is_plain(r, n, target)
    add(plain and at_once or later, { target, source, n })
  end
  M.jump(r, at_once)
  local undone = M.cycle(r, n) ~= visit or M.status(r, n) <= ACTIVE or in_pieces(r) and M.is_void(r, n)
  local chosen = {}
  for _, goto_ in ipairs(later) do
    if along[goto_[1]] and not undone then
      M.leave_loops(r, n, goto_[1])
      chosen[goto_[1]] = true
    else
      M.put_off(r, goto_)
    end
  end
  if not undone then
    each_out(rec, function(e, target) set_want(r, e, chosen[target] and FIRE or SKIP) end)
    M.release(r, n)
  end
end

-- Whether a goto crosses no border: neither that of a group nor that of a loop, nor into the next round of one.
function M.is_plain(r, n, target)
  local rec = M.rec(r, n)
  if M.rec(r, target)[SCOPE] ~= rec[SCOPE] then return false end
  for _, k in ipairs(rec[AROUND] or {}) do
    local loop = M.loop_rec(r, k)
    if loop[OF_LOOP.HEADER] == target or not within(loop[OF_LOOP.BODY], target) then return false end
  end
  return true
end

-- A goto that the loop or group around the task performs when it settles (9, 12, 14).
function M.put_off(r, goto_)
  local target, n = goto_[1], goto_[3]
  local rec = M.rec(r, n)
  if M.rec(r, target)[SCOPE] ~= rec[SCOPE] then
    local d = touch(M.scope(r, rec[SCOPE]))
    d.g = d.g or {}
    d.g[#d.g + 1] = goto_
    for _, k in ipairs(rec[AROUND] or {}) do M.leave(M.loop(r, k), n) end -- leaving the group is leaving its loops
    return
  end
  local left = M.leave_loops(r, n, target)
  for _, k in ipairs(rec[AROUND] or {}) do
    if M.loop_rec(r, k)[OF_LOOP.HEADER] == target then
      local d = touch(M.loop(r, k))
      d.t = d.t or {}
      d.t[#d.t + 1] = goto_
      return
    end
  end
  if #left > 0 then
    local d = touch(M.loop(r, left[1]))
    d.p = d.p or {}
    d.p[#d.p + 1] = goto_
  else
    M.jump(r, { goto_ })
  end
end

-- A goto to a node outside ends all loops that it leaves, when their rounds have drained (9). Returns them, outermost first.
function M.leave_loops(r, n, target)
  local left, around = {}, M.rec(r, n)[AROUND] or {}
  for i = #around, 1, -1 do
    if not within(M.loop_rec(r, around[i])[OF_LOOP.BODY], target) then
      left[#left + 1] = around[i]
      M.leave(M.loop(r, around[i]), n)
    end
  end
  return left
end
