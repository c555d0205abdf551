-- Where a run stands: core/board.py.

-- ---- the heap of regions that may have drained ----

local function push(heap, key)
  local i = #heap + 1
  heap[i] = key
  while i > 1 do
    local parent = floor(i / 2)
    if heap[parent] <= heap[i] then break end
    heap[parent], heap[i] = heap[i], heap[parent]
    i = parent
  end
end

local function pop(heap)
  local least, last = heap[1], table.remove(heap)
  if #heap == 0 then return least end
  heap[1] = last
  local i = 1
  while true do
    local child = 2 * i
    if child > #heap then break end
    if child < #heap and heap[child + 1] < heap[child] then child = child + 1 end
    if heap[i] <= heap[child] then break end
    heap[i], heap[child] = heap[child], heap[i]
    i = child
  end
  return least
end

local function add(agenda, item) agenda[#agenda + 1] = item end

-- ---- nodes ----

function M.mark(r, n, status)
  local b = get(r, 's', n)
  local before = b % 8
  if before == status then return end
  put(r, 's', n, b - before + status)
  local rec = M.rec(r, n)
  local sc = M.scope(r, rec[SCOPE])
  if (before <= ACTIVE) ~= (status <= ACTIVE) then M.count_open(r, sc, rec, n, status <= ACTIVE and 1 or -1) end
  if (before >= FAILED) ~= (status >= FAILED) then M.count_bad(r, sc, rec, n, status >= FAILED and 1 or -1) end
  if sc.early then M.judge_branch(r, sc, M.branch(rec, n)) end
  if before == ACTIVE and b >= PLACED then M.give_place_back(r, sc, n) end
end

local function open_name(sc, branch) return 'O' .. sc.n .. ':' .. branch end
local function bad_name(sc, branch) return 'B' .. sc.n .. ':' .. branch end

local function open_in(r, sc, branch)
  local open = count(r, open_name(sc, branch))
  if open == nil then open = sc.group[OF_GROUP.SIZES] and sc.group[OF_GROUP.SIZES][branch + 1] or 0 end
  return open
end

function M.count_open(r, sc, rec, n, by)
  local d = touch(sc)
  d.o = d.o + by
  if d.o == 0 then push(r.drained, sc.order) end
  if sc.early then
    local branch = M.branch(rec, n)
    set_count(r, open_name(sc, branch), open_in(r, sc, branch) + by)
  end
  for _, k in ipairs(rec[AROUND] or {}) do
    local loop = M.loop(r, k)
    local l = touch(loop)
    l.o = l.o + by
    if l.o == 0 then push(r.drained, loop.order) end
  end
end

local function is_critical(sc, branch)
  for _, named in ipairs(sc.d.C or sc.group[OF_GROUP.CRITICAL]) do
    if named == branch then return true end
  end
  return false
end

function M.count_bad(r, sc, rec, n, by)
  if sc.n ~= RUN then
    local branch = M.branch(rec, n)
    local name = bad_name(sc, branch)
    local before = count(r, name) or 0
    local after = before + by
    set_count(r, name, after ~= 0 and after or nil)
    if (before == 0) ~= (after == 0) then
      local d = touch(sc)
      d.b = (d.b or 0) + by
      if is_critical(sc, branch) then d.c = (d.c or 0) + by end
    end
  end
  for _, k in ipairs(rec[AROUND] or {}) do
    local l = touch(M.loop(r, k))
    l.b = l.b + by
  end
end

local function is_bad(r, sc, branch) return (sc.d.b or 0) > 0 and (count(r, bad_name(sc, branch)) or 0) ~= 0 end

-- Keep count of the branches that have succeeded, for a policy that need not wait for the others (24).
function M.judge_branch(r, sc, branch)
  local name = 'U' .. sc.n .. ':' .. branch
  local before, after = count(r, name) == 1, open_in(r, sc, branch) == 0 and not is_bad(r, sc, branch)
  if before ~= after then
    local d = touch(sc)
    d.s = (d.s or 0) + (after and 1 or -1)
    set_count(r, name, after and 1 or nil)
  end
  if after and sc.d.s >= sc.group[OF_GROUP.N] then push(r.drained, sc.order) end
end

-- A branch that there is none of any more has not succeeded.
function M.unjudge_branch(r, sc, branch)
  local name = 'U' .. sc.n .. ':' .. branch
  if sc.early and count(r, name) == 1 then
    touch(sc).s = sc.d.s - 1
    set_count(r, name, nil)
  end
end

function M.give_place_back(r, sc, n)
  flag(r, n, PLACED, false)
  touch(sc).p = sc.d.p - 1
  if sc.d.h and #sc.d.h > 0 then add(r.admissions, sc.n) end
end

-- ---- many nodes at once ----

-- visit(lo, hi, status) for runs of nodes of the same status.
function M.status_runs(r, list, visit)
  for i = 1, #list, 2 do
    local n, hi, first, known = list[i], list[i + 1], list[i], nil
    while n <= hi do
      local k = floor(n / PAGE)
      local page, base = r.pages.s[k] or page_of(r, 's', k), k * PAGE - 1
      for at = n - base, math.min(hi - base, PAGE) do
        local status = (page[at] or 0) % 8
        if status ~= known then
          if known then visit(first, at + base - 1, known) end
          first, known = at + base, status
        end
      end
      n = (k + 1) * PAGE
    end
    if known then visit(first, hi, known) end
  end
end

-- Give nodes of one scope another status: all, or those that have the status `from`. Members of a fan-out are done at once; whatever is out of the
-- ordinary, and all that runs or has failed, is left to other(n). visited(n) hears of those done at once that have been visited before.
function M.sweep(r, sc, list, to, from, other, visited)
  local opened = 0
  for i = 1, #list, 2 do
    local n, hi = list[i], list[i + 1]
    while n <= hi do
      local last = not sc.early and to < FAILED and M.alike_until(r, n)
      if not last then
        other(n)
        n = n + 1
      else
        local k = floor(n / PAGE)
        local page, base = r.pages.s[k] or page_of(r, 's', k), k * PAGE - 1
        last = math.min(last, hi, base + PAGE)
        for hole = #page + 1, last - base do page[hole] = 0 end
        for at = n - base, last - base do
          local b = page[at]
          local status = b % 8
          if status == ACTIVE or status >= FAILED then
            other(at + base)
          elseif status ~= to and (not from or status == from) then
            page[at] = b - status + to
            if status == WAITING then opened = opened - 1 elseif to == WAITING then opened = opened + 1 end
          end
          if visited and b >= VISITED then visited(at + base) end
        end
        r.dirty.s[k] = true
        n = last + 1
      end
    end
  end
  if opened ~= 0 then
    local d = touch(sc)
    d.o = d.o + opened
    if d.o == 0 then push(r.drained, sc.order) end
  end
end

-- New nodes, all of one status.
function M.fill(r, lo, hi, status)
  local n = lo
  while n <= hi do
    local k = floor(n / PAGE)
    if n == k * PAGE and hi >= n + PAGE - 1 then
      r.pages.s[k], r.dirty.s[k] = nil, nil
      write(r, 's' .. k, string.rep(char(status), PAGE))
      n = n + PAGE
    else
      put(r, 's', n, status)
      n = n + 1
    end
  end
end

-- What is in these ranges, as a table to be asked.
function M.region_of(list)
  return setmetatable({}, { __index = function(_, n) return within(list, n) end })
end

function M.is_live(r, n) return n == RUN or (M.status(r, n) == ACTIVE and M.scope(r, n).d.e == 1) end

-- The innermost region that has drained and not been closed yet: a loop, or a scope.
function M.pop_drained(r)
  while #r.drained > 0 do
    local key = pop(r.drained)
    local n = key % 2 ^ 21 - 1
    if key < 2 ^ 42 then
      local loop = M.loop(r, n)
      if loop.d.o == 0 and not loop.d.x and M.is_live(r, loop.rec[OF_LOOP.SCOPE]) then return loop, nil end
    else
      local sc = M.scope(r, n)
      if M.is_live(r, n) and (sc.d.o == 0 or sc.early) then return nil, sc end
    end
  end
end

function M.consider(r, sc)
  if sc.d.o == 0 then push(r.drained, sc.order) end
end

-- ---- edges and joins ----

local SMALL = 16 -- a join of so many edges is counted by looking at them; a larger one keeps count

local function want(r, e) return floor(get(r, 'e', e) / 4) end
local function decision(r, e) return get(r, 'e', e) % 4 end

local function set_want(r, e, value)
  local b = get(r, 'e', e)
  put(r, 'e', e, b % 4 + 4 * value)
end

-- undecided, fired, broken
local function large_join(r, n, rec)
  local j = r.joins[n]
  if not j then
    local s = field(r, 'J' .. n)
    j = s and unpacked(s) or { rec.indegree, 0, 0 }
    r.joins[n] = j
  end
  return j
end

function M.join(r, n)
  local rec = M.rec(r, n)
  if rec.indegree > SMALL then
    local j = large_join(r, n, rec)
    return j[1], j[2], j[3]
  end
  local undecided, fired, broken = 0, 0, 0
  local ins = rec[INS]
  for i = 1, #ins, 4 do
    for e = ins[i], ins[i + 1] do
      local d = decision(r, e)
      if d == 0 then undecided = undecided + 1 elseif d == FIRE then fired = fired + 1 elseif d == BREAK then broken = broken + 1 end
    end
  end
  return undecided, fired, broken
end

local function count_edge(r, target, before, after)
  local rec = M.rec(r, target)
  if rec.indegree <= SMALL then return end
  local j = large_join(r, target, rec)
  j.dirty = true
  if before == 0 then j[1] = j[1] - 1 elseif before == FIRE then j[2] = j[2] - 1 elseif before == BREAK then j[3] = j[3] - 1 end
  if after == 0 then j[1] = j[1] + 1 elseif after == FIRE then j[2] = j[2] + 1 elseif after == BREAK then j[3] = j[3] + 1 end
end

-- Decide an edge as its source wants it, once a visit (1). Returns the target when all its edges are decided.
function M.decide(r, e, target)
  local b = get(r, 'e', e)
  if b % 4 ~= 0 or M.status(r, target) ~= WAITING then return nil end
  local decided = floor(b / 4)
  if decided == 0 then decided = SKIP end
  put(r, 'e', e, b + decided)
  count_edge(r, target, 0, decided)
  if M.rec(r, target).indegree == 1 or M.join(r, target) == 0 then return target end
end

-- Make an edge undecided again; its target's join counts one less.
function M.undo(r, e, target)
  local b = get(r, 'e', e)
  if b % 4 == 0 then return end
  put(r, 'e', e, b - b % 4)
  count_edge(r, target, b % 4, 0)
end

-- Skip an edge whose source lies before start=, whatever its target is (3).
function M.rule_out(r, e, target)
  put(r, 'e', e, SKIP + 4 * SKIP)
  count_edge(r, target, 0, SKIP)
end

-- visit(edge, target, condition) for each edge that leaves a node
local function each_out(rec, visit)
  local outs = rec[OUTS]
  for i = 1, #outs, 5 do
    local target, step, on = outs[i + 2], outs[i + 3], outs[i + 4]
    for e = outs[i], outs[i + 1] do
      visit(e, target, on)
      target = target + step
    end
  end
end

-- The nodes whose edges fired for the present visit.
local function fired_into(r, rec)
  local sources, ins = {}, rec[INS]
  for i = 1, #ins, 4 do
    local source = ins[i + 2]
    for e = ins[i], ins[i + 1] do
      if decision(r, e) == FIRE then sources[#sources + 1] = source end
      source = source + ins[i + 3]
    end
  end
  return sources
end

-- ---- gotos to nodes that still wait ----

local function went(r)
  if not r.went then
    local s = r.v[WENT] > 0 and field(r, 'W')
    r.went = {}
    if s then
      for _, goto_ in ipairs(unpacked(s)) do
        local list = r.went[goto_[1]] or {}
        list[#list + 1] = goto_
        r.went[goto_[1]] = list
      end
    end
  end
  return r.went
end

local function count_went(r)
  local number = 0
  for _ in pairs(went(r)) do number = number + 1 end
  r.v[WENT], r.went_changed = number, true
end
