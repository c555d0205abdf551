-- Going round and going back: core/rounds.py.

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
    M.reset(r, M.scope(r, rec[OF_LOOP.SCOPE]), rec[OF_LOOP.BODY])
    -- Body nodes whose edges all come from outside start again with each round (7).
    each(rec[OF_LOOP.BODY], function(n)
      if n ~= rec[OF_LOOP.HEADER] and M.join(r, n) == 0 then add(r.looks, n) end
    end)
    return M.visit(r, rec[OF_LOOP.HEADER], came_from)
  end
  d.x = 1
  local leaps = d.p or {}
  d.p = nil
  if #leaps > 0 and d.b == 0 then M.jump(r, leaps) end
  if d.x then M.decide_exits(r, loop) end -- else a leap went back to before the loop
end

function M.decide_exits(r, loop)
  local exits = loop.rec[OF_LOOP.EXITS]
  for i = 1, #exits, 3 do
    local e, target = exits[i], exits[i + 2]
    if loop.d.b > 0 then set_want(r, e, BREAK) -- (28)
    elseif want(r, e) == 0 then set_want(r, e, SKIP) end -- its source lies before start=
    if decision(r, e) == 0 then add(r.edges, { e, e, target, 0 }) end
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
  if #decided > 0 then M.rewind(r, decided, gotos) end
  for _, goto_ in ipairs(gotos) do
    local target = goto_[1]
    if not r.ended and M.status(r, target) == WAITING then
      local list = went(r)[target] or {}
      list[#list + 1] = goto_
      went(r)[target] = list
      count_went(r)
      add(r.looks, target)
    end
  end
end

-- Visit nodes that run or are decided once more. One that another of them leads to waits for that one instead.
function M.rewind(r, targets, gotos)
  local reach, region, union = {}, {}, {}
  for _, target in ipairs(targets) do
    reach[target] = M.downstream(r, target)
    for n in pairs(reach[target]) do
      if not union[n] then
        union[n] = true
        region[#region + 1] = n
      end
    end
  end
  local first = {}
  for _, target in ipairs(targets) do
    local led_to = false
    for _, other in ipairs(targets) do led_to = led_to or (other ~= target and reach[other][target] or false) end
    if not led_to then first[#first + 1] = target end
  end
  table.sort(region)
  local list = {}
  for _, n in ipairs(region) do append_range(list, n) end
  M.reset(r, M.scope(r, M.rec(r, targets[1])[SCOPE]), list)
  for _, target in ipairs(first) do
    if M.status(r, target) == WAITING then -- else an earlier visit failed at once, and its group with it
      local came_from = {}
      for _, goto_ in ipairs(gotos) do
        if goto_[1] == target then came_from[#came_from + 1] = goto_[2] end
      end
      M.visit(r, target, came_from)
    end
  end
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

-- Make nodes of one scope undecided again and stop what runs there; what they had asked for and not got is forgotten.
--
-- Results stay readable, and edges from outside keep their state (7, 31).
function M.reset(r, sc, list)
  local region, loops, order, odd = M.region_of(list), {}, {}, {}
  M.forget_agenda(r, region)
  M.sweep(r, sc, list, WAITING, ACTIVE, BROKEN, function(n)
    odd[#odd + 1] = n
    if M.status(r, n) == ACTIVE then M.stop(r, n) end
    M.mark(r, n, WAITING)
  end)
  for _, n in ipairs(odd) do
    for _, k in ipairs(M.rec(r, n)[AROUND] or {}) do
      if not loops[k] then
        loops[k] = true
        order[#order + 1] = k
      end
    end
  end
  for _, k in ipairs(order) do M.reopen(r, M.loop(r, k), region) end
  M.withdraw_gotos(r, sc, region)
  for _, n in ipairs(odd) do
    each_out(M.rec(r, n), function(e, target)
      set_want(r, e, 0)
      M.undo(r, e, target)
    end)
  end
end

-- Whatever of an agenda that was put off concerns these nodes is void: they are to be decided anew.
function M.forget_agenda(r, region)
  if r.v[CONTINUING] == 0 then return end
  local function filter(agenda, keeps)
    local kept = { first = 1 }
    for i = agenda.first, #agenda do keeps(agenda[i], kept) end
    return kept
  end
  r.looks = filter(r.looks, function(n, kept)
    if not region[n] then add(kept, n) end
  end)
  r.visits = filter(r.visits, function(item, kept)
    local last
    for n = item[1], item[2] do
      if region[n] then
        last = nil
      elseif last then
        last[2] = n
      else
        last = { n, n }
        add(kept, last)
      end
    end
  end)
  r.edges = filter(r.edges, function(item, kept)
    if not (item[5] and region[item[5]]) then add(kept, item) end
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
  local whole = true
  each(loop.rec[OF_LOOP.BODY], function(n) whole = whole and region[n] or false end)
  if not whole then -- entered in its midst: its exits are decided anew when it has ended again
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
