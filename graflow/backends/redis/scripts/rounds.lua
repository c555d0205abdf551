-- Going round and going back: core/rounds.py.
--
-- A large region is made undecided again in pieces, and what is to be done after that waits. Until then it is void: outcomes of what runs in it are
-- refused, as they will be when it has been stopped.

local AT_ONCE = 64 -- nodes that are made undecided again at once
-- What waits: kind, scope, and lo, hi; lo, hi, header; node, who led there; goto; node, the first of its edges (as its record has them).
local PIECE, LOOK_IN, VISIT_THERE, GO_THERE, EDGES = 1, 2, 3, 4, 5

local function wait_for_region(r, kind, scope, ...) add(r.regions, { kind, scope, ... }) end

-- A round has drained: go round again if a back edge fired and nobody left, else end the loop and decide what leaves it (6, 8).
function M.turn(r, loop)
  local rec, d = loop.rec, touch(loop)
  local came_from = {}
  for i = 1, #rec[OF_LOOP.BACK], 2 do
    if want(r, rec[OF_LOOP.BACK][i]) == FIRE then came_from[#came_from + 1] = rec[OF_LOOP.BACK][i + 1] end
  end
  local turns = d.t or {}
  if d.b == 0 and #(d.l or {}) == 0 and (#came_from > 0 or #turns > 0) then
    for _, goto_ in ipairs(turns) do came_from[#came_from + 1] = goto_[2] end
    local scope, body, header = rec[OF_LOOP.SCOPE], rec[OF_LOOP.BODY], rec[OF_LOOP.HEADER]
    if M.reset(r, M.scope(r, scope), body) then
      for i = 1, #body, 2 do wait_for_region(r, LOOK_IN, scope, body[i], body[i + 1], header) end
      return wait_for_region(r, VISIT_THERE, scope, header, came_from)
    end
    each(body, function(n) M.look_in(r, n, header) end)
    return M.visit(r, header, came_from)
  end
  d.x = 1
  local leaps = d.p or {}
  d.p = nil
  if #leaps > 0 and d.b == 0 then M.jump(r, leaps) end
  if d.x then M.decide_exits(r, loop) end -- else a leap went back to before the loop
end

-- Body nodes whose edges all come from outside start again with each round (7).
function M.look_in(r, n, header)
  if n ~= header and M.join(r, n) == 0 then add(r.looks, n) end
end

function M.decide_exits(r, loop)
  local exits = loop.rec[OF_LOOP.EXITS]
  for i = 1, #exits, 3 do
    local e, target = exits[i], exits[i + 2]
    if loop.d.b > 0 then set_want(r, e, BREAK) -- (28)
    elseif want(r, e) == 0 then set_want(r, e, SKIP) end -- its source lies before start=
    if decision(r, e) == 0 then add_edges(r, { e, e, target, 0 }) end
  end
end

-- Go to nodes beside the task: rewind to those that run or are decided, fire one more edge into those that wait (11, 13).
function M.jump(r, gotos)
  local decided, seen = {}, {}
  for _, goto_ in ipairs(gotos) do
    if M.status(r, goto_[1]) ~= WAITING and not seen[goto_[1]] then
      seen[goto_[1]] = true
      decided[#decided + 1] = goto_[1]
    end
  end
  local later = #decided > 0 and M.rewind(r, decided, gotos)
  for _, goto_ in ipairs(gotos) do
    if later then wait_for_region(r, GO_THERE, M.rec(r, goto_[1])[SCOPE], goto_) else M.go_there(r, goto_) end
  end
end

function M.go_there(r, goto_)
  local target = goto_[1]
  if r.ended or M.status(r, target) ~= WAITING then return end
  local list = went(r)[target] or {}
  list[#list + 1] = goto_
  went(r)[target] = list
  count_went(r)
  add(r.looks, target)
end

-- Visit nodes that run or are decided once more. One that another of them leads to waits for that one instead. Whether it is done in pieces.
function M.rewind(r, targets, gotos)
  local reach, list = {}, {}
  for _, target in ipairs(targets) do
    reach[target] = M.reach(r, target)
    list = joined(list, reach[target])
  end
  local first = {}
  for _, target in ipairs(targets) do
    local led_to = false
    for _, other in ipairs(targets) do led_to = led_to or (other ~= target and within(reach[other], target)) end
    if not led_to then first[#first + 1] = target end
  end
  local scope = M.rec(r, targets[1])[SCOPE]
  local later = M.reset(r, M.scope(r, scope), list)
  for _, target in ipairs(first) do
    local came_from = {}
    for _, goto_ in ipairs(gotos) do
      if goto_[1] == target then came_from[#came_from + 1] = goto_[2] end
    end
    if later then
      wait_for_region(r, VISIT_THERE, scope, target, came_from)
    elseif M.status(r, target) == WAITING then -- else an earlier visit failed at once, and its group with it
      M.visit(r, target, came_from)
    end
  end
  return later
end

-- What a rewind to a node makes undecided again, as ranges. It is a matter of the plan alone: whoever asked for the goto has worked it out.
function M.reach(r, n)
  local known = n < r.v[PLANNED] and call('HGET', r.plan, 'd' .. n)
  if known then return unpacked(known) end
  local region, list = {}, {}
  for node in pairs(M.downstream(r, n)) do region[#region + 1] = node end
  table.sort(region)
  for _, node in ipairs(region) do append_range(list, node) end
  return list
end

-- A node and all that forward edges lead to from there; a loop that is entered takes its exits with it (13): core/plan.py.
function M.downstream(r, n)
  local seen, work, entered = { [n] = true }, { n }, {}
  local function reach(target)
    if not seen[target] then
      seen[target] = true
      work[#work + 1] = target
    end
  end
  while #work > 0 do
    local current = table.remove(work)
    local rec = M.rec(r, current)
    local back = {}
    for _, k in ipairs(rec[AROUND] or {}) do
      local loop = M.loop_rec(r, k)
      for i = 1, #loop[OF_LOOP.BACK], 2 do back[loop[OF_LOOP.BACK][i]] = true end
      if not entered[k] then
        entered[k] = true
        for i = 1, #loop[OF_LOOP.LEAVING], 3 do reach(loop[OF_LOOP.LEAVING][i + 2]) end
      end
    end
    each_out(rec, function(e, target)
      if not back[e] then reach(target) end
    end)
  end
  return seen
end

-- Make nodes of one scope undecided again and stop what runs there; what they had asked for and not got is forgotten. Whether it is done in pieces.
--
-- Results stay readable, and edges from outside keep their state (7, 31).
function M.reset(r, sc, list)
  M.finish_regions(r, sc.n)
  M.forget_agenda(r, list)
  local region = M.region_of(list)
  if size_of(list) <= AT_ONCE then
    local odd = M.undecide(r, sc, list)
    M.reopen_around(r, odd, region)
    M.withdraw_gotos(r, sc, region)
    M.undo_edges(r, odd)
    return false
  end
  for k = 0, M.head(r)[5] - 1 do
    local loop = M.loop_rec(r, k)
    if loop[OF_LOOP.SCOPE] == sc.n and meet(loop[OF_LOOP.BODY], list) then M.reopen(r, M.loop(r, k), region) end
  end
  M.withdraw_gotos(r, sc, region)
  for i = 1, #list, 2 do wait_for_region(r, PIECE, sc.n, list[i], list[i + 1]) end
  return true
end

-- Returns those that are out of the ordinary: only these may have edges, and loops around them.
function M.undecide(r, sc, list)
  local odd = {}
  M.sweep(r, sc, list, WAITING, ACTIVE, BROKEN, function(n)
    odd[#odd + 1] = n
    if M.status(r, n) == ACTIVE then M.stop(r, n) end
    M.mark(r, n, WAITING)
  end)
  return odd
end

function M.undo_edges(r, nodes)
  for _, n in ipairs(nodes) do M.undo_some(r, n, 1) end
end

-- Edges of a node from a place in its record on, so many runs of them, or all. Returns the place that comes next, nil after the last.
function M.undo_some(r, n, place, most)
  local outs = M.rec(r, n)[OUTS]
  local last = math.min(#outs, most and place + 5 * most - 1 or #outs)
  for i = place, last, 5 do M.undo_many(r, outs[i], outs[i + 1], outs[i + 2], outs[i + 3]) end
  return last < #outs and last + 1 or nil
end

function M.reopen_around(r, nodes, region)
  local known = {}
  for _, n in ipairs(nodes) do
    for _, k in ipairs(M.rec(r, n)[AROUND] or {}) do
      if not known[k] then M.reopen(r, M.loop(r, k), region) end
      known[k] = true
    end
  end
end

-- ---- regions in pieces ----

-- Do one node of what waits, or one page of nodes that are alike. Whether there is more of it. Unless it is done at once, a node with many edges has
-- them undone in pieces, too.
local function do_piece(r, item, at_once)
  local kind, sc = item[1], M.scope(r, item[2])
  local n, hi = item[3], item[4]
  if kind == PIECE then
    local last = M.alike_until(r, n)
    last = last and math.min(last, hi, (floor(n / PAGE) + 1) * PAGE - 1) or n
    local odd = M.undecide(r, sc, { n, last })
    local more = odd[1] and M.undo_some(r, odd[1], 1, not at_once and AT_ONCE or nil)
    if more then
      r.regions.first = r.regions.first - 1
      r.regions[r.regions.first] = { EDGES, sc.n, n, more }
    end
    item[3] = last + 1
    return last < hi
  elseif kind == LOOK_IN then
    M.look_in(r, n, item[5])
    item[3] = n + 1
    return n < hi
  elseif kind == EDGES then
    item[4] = M.undo_some(r, n, hi, AT_ONCE)
    return item[4] ~= nil
  elseif kind == VISIT_THERE then
    if M.status(r, n) == WAITING then M.visit(r, n, hi) end
  else
    M.go_there(r, n)
  end
end

function M.work_region(r)
  local regions = r.regions
  local item = regions[regions.first]
  regions[regions.first] = false
  regions.first = regions.first + 1
  if do_piece(r, item) then -- what it has led to comes after the rest of it
    regions = r.regions
    regions.first = regions.first - 1
    regions[regions.first] = item
  end
end

-- Do at once what waits in a scope, or in the whole run, for something else is to be done with it. With `undone` only nodes are made undecided: it is
-- about to be stopped, and who would be visited then no longer waits.
function M.finish_regions(r, scope, undone)
  if not in_pieces(r) then return end
  local regions = r.regions
  local mine, kept = {}, { first = 1 }
  for i = regions.first, #regions do
    local item = regions[i]
    if not scope or item[2] == scope then mine[#mine + 1] = item else add(kept, item) end
  end
  r.regions = kept
  for _, item in ipairs(mine) do
    while not (undone and item[1] ~= PIECE and item[1] ~= EDGES) and do_piece(r, item, true) do end
  end
end

-- Whether a node, or a group around it, is yet to be made undecided again.
function M.is_void(r, n)
  local regions = r.regions
  while n ~= RUN do
    for i = regions.first, #regions do
      local item = regions[i]
      if item[1] == PIECE and n >= item[3] and n <= item[4] then return true end
    end
    n = M.rec(r, n)[SCOPE]
  end
  return false
end

-- Whatever of an agenda that was put off concerns these nodes is void: they are to be decided anew.
function M.forget_agenda(r, list)
  if r.v[CONTINUING] == 0 and not r.behind then return end
  local function filter(agenda, keeps)
    local kept = { first = 1 }
    for i = agenda.first, #agenda do keeps(agenda[i], kept) end
    return kept
  end
  r.looks = filter(r.looks, function(n, kept)
    if not within(list, n) then add(kept, n) end
  end)
  r.visits = filter(r.visits, function(item, kept)
    for _, left in ipairs(without(item, list)) do add(kept, left) end
  end)
  M.all_edges(r)
  r.edges = filter(r.edges, function(item, kept)
    if not (item[5] and within(list, item[5])) then add(kept, item) end
  end)
end

local function kept_gotos(gotos, region)
  local kept = {}
  for _, goto_ in ipairs(gotos) do
    if not region[goto_[3]] then kept[#kept + 1] = goto_ end
  end
  return #kept > 0 and kept or nil
end

function M.reopen(r, loop, region)
  local d = touch(loop)
  d.x = nil
  if d.l then
    local kept = {}
    for _, n in ipairs(d.l) do
      if not region[n] then kept[#kept + 1] = n end
    end
    d.l = #kept > 0 and kept or nil
  end
  if d.t then d.t = kept_gotos(d.t, region) end
  if d.p then d.p = kept_gotos(d.p, region) end
  if not region.holds(loop.rec[OF_LOOP.BODY]) then -- entered in its midst: its exits are decided anew when it has ended again
    local leaving = loop.rec[OF_LOOP.LEAVING]
    for i = 1, #leaving, 3 do M.undo(r, leaving[i], leaving[i + 2]) end
  end
end

-- Like an edge, a goto is undone with the visit that made it; those from outside the region stay.
function M.withdraw_gotos(r, sc, region)
  if r.v[WENT] > 0 then
    for target, gotos in pairs(went(r)) do went(r)[target] = kept_gotos(gotos, region) end
    count_went(r)
  end
  if sc.d.g then touch(sc).g = kept_gotos(sc.d.g, region) end
  if sc.d.l then
    local kept = {}
    for _, n in ipairs(sc.d.l) do
      if not region[n] then kept[#kept + 1] = n end
    end
    touch(sc).l = #kept > 0 and kept or nil
  end
end
