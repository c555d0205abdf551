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

-- Edges to be decided wait in the order in which they came: some here, the many behind them in fields of their own, and behind those what has come since.
local function add_edges(r, item) add((r.line[1] <= r.line[2] or #r.tail > 0) and r.tail or r.edges, item) end

-- The next of those fields, or what has come since; false when there is neither.
local function more_edges(r)
  local line = r.line
  if line[1] <= line[2] then
    local name = 'agenda' .. line[1]
    r.edges = unpacked(field(r, name))
    drop(r, name)
    line[1] = line[1] + 1
  elseif #r.tail > 0 then
    r.edges, r.tail = r.tail, {}
  else
    return false
  end
  r.edges.first = 1
  return true
end

-- All of them here: something is to be taken out.
function M.all_edges(r)
  local all = { first = 1 }
  repeat
    for i = r.edges.first, #r.edges do add(all, r.edges[i]) end
  until not more_edges(r)
  r.edges = all
end

-- ---- nodes ----

function M.mark(r, n, status)
  local b = get(r, 's', n)
  local before = b % 8
  if before == status then return end
  local rec = M.rec(r, n)
  local sc = M.scope(r, rec[SCOPE])
  local was_good = sc.early and M.is_good(r, sc, M.branch(rec, n))
  put(r, 's', n, b - before + status)
  if (before <= ACTIVE) ~= (status <= ACTIVE) then M.count_open(r, sc, rec, n, status <= ACTIVE and 1 or -1) end
  if (before >= FAILED) ~= (status >= FAILED) then M.count_bad(r, sc, rec, n, status >= FAILED and 1 or -1) end
  if sc.early then M.judge_branch(r, sc, M.branch(rec, n), was_good) end
  if before == ACTIVE and b >= PLACED then M.give_place_back(r, sc, n) end
end

local function open_name(sc, branch) return 'O' .. sc.n .. ':' .. branch end
local function bad_name(sc, branch) return 'B' .. sc.n .. ':' .. branch end

-- The nodes that a branch has by itself, where their statuses say all there is: members that are alike, and branches that are short and of the same
-- length. Then only what is made beside them is counted. Nil for others.
local function own_nodes(r, sc, branch)
  local length = sc.group[OF_GROUP.EVEN]
  if length then
    local first = sc.group[OF_GROUP.LO] + branch * length
    return first, first + length - 1
  end
  for _, a in ipairs(sc.group[OF_GROUP.MAPPING] and ranges(r) or alikes(r)) do
    if a[3] == sc.n and branch >= a[4] and branch <= a[4] + a[2] - a[1] then return a[1] + branch - a[4], a[1] + branch - a[4] end
  end
end

local function is_own(r, sc, rec, n) return rec.base ~= nil or (sc.group[OF_GROUP.EVEN] and n < r.v[PLANNED]) end

-- How many of them have a status from least to most.
local function count_own(r, first, last, least, most)
  local number = 0
  for n = first or 1, last or 0 do
    local status = M.status(r, n)
    if status >= least and status <= most then number = number + 1 end
  end
  return number
end

-- Counted open nodes of a branch.
local function open_in(r, sc, branch, own)
  if own and not sc.d.d then return 0 end
  local open = count(r, open_name(sc, branch))
  if open == nil then open = not own and sc.group[OF_GROUP.SIZES] and sc.group[OF_GROUP.SIZES][branch + 1] or 0 end
  return open
end

-- Counted failed and broken ones.
local function bad_in(r, sc, branch, own)
  if own and not sc.d.d then return 0 end
  return count(r, bad_name(sc, branch)) or 0
end

function M.count_open(r, sc, rec, n, by)
  local d = touch(sc)
  d.o = d.o + by
  if d.o == 0 then push(r.drained, sc.order) end
  if sc.early and not is_own(r, sc, rec, n) then
    local branch = M.branch(rec, n)
    set_count(r, open_name(sc, branch), open_in(r, sc, branch, own_nodes(r, sc, branch)) + by)
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
    local first, last = own_nodes(r, sc, branch)
    local counted = bad_in(r, sc, branch, first)
    if not is_own(r, sc, rec, n) then
      counted = counted + by
      set_count(r, bad_name(sc, branch), counted ~= 0 and counted or nil)
    end
    local after = counted + count_own(r, first, last, FAILED, BROKEN)
    local before = after - by
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

local function is_bad(r, sc, branch)
  if (sc.d.b or 0) == 0 then return false end
  local first, last = own_nodes(r, sc, branch)
  return count_own(r, first, last, FAILED, BROKEN) > 0 or bad_in(r, sc, branch, first) ~= 0
end

-- Whether a branch has succeeded, as far as it goes: nothing of it is undecided, and nothing failed or broken.
function M.is_good(r, sc, branch)
  local first, last = own_nodes(r, sc, branch)
  return count_own(r, first, last, WAITING, ACTIVE) == 0 and open_in(r, sc, branch, first) == 0 and not is_bad(r, sc, branch)
end

-- Keep count of the branches that have succeeded, for a policy that need not wait for the others (24).
function M.judge_branch(r, sc, branch, before)
  local after = M.is_good(r, sc, branch)
  if before ~= after then M.count_good(r, sc, after and 1 or -1) end
  if after and sc.d.s >= sc.group[OF_GROUP.N] then push(r.drained, sc.order) end
end

function M.count_good(r, sc, by)
  local d = touch(sc)
  d.s = (d.s or 0) + by
end

function M.give_place_back(r, sc, n)
  flag(r, n, PLACED, false)
  M.give_places_back(r, sc, 1)
end

function M.give_places_back(r, sc, number)
  touch(sc).p = sc.d.p - number
  if sc.d.h and #sc.d.h > 0 then add(r.admissions, sc.n) end
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

-- The same for all edges from lo to hi.
local function want_many(r, lo, hi, value)
  if hi - lo < SMALL then
    for e = lo, hi do set_want(r, e, value) end
    return
  end
  local wanted = {}
  for b = 0, 15 do wanted[char(b)] = char(b % 4 + 4 * value) end
  while lo <= hi do
    local k = floor(lo / PAGE)
    local text, from, upto = text_of(r, 'e', k), lo % PAGE + 1, math.min(hi - k * PAGE + 1, PAGE)
    put_text(r, 'e', k, sub(text, 1, from - 1) .. string.gsub(sub(text, from, upto), '.', wanted) .. sub(text, upto + 1))
    lo = (k + 1) * PAGE
  end
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

-- The nodes whose joins may be large ones, as ranges.
local function large_joins(r)
  if not r.large then
    local s = call('HGET', r.plan, 'joins')
    r.large = s and unpacked(s) or {}
  end
  return r.large
end

local function count_edge(r, target, before, after)
  if not within(large_joins(r), target) then return end
  local j = large_join(r, target, M.rec(r, target))
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

-- The same for edges from lo to hi, whose targets are step by step further on; and nobody wants anything of them any more.
function M.undo_many(r, lo, hi, target, step)
  local wide = hi - lo >= SMALL and step == 1
  if not wide then
    for e = lo, hi do
      set_want(r, e, 0)
      M.undo(r, e, target + step * (e - lo))
    end
    return
  end
  for _, n in ipairs(common(large_joins(r), target, target + hi - lo)) do M.undo(r, lo + n - target, n) end
  while lo <= hi do
    local k = floor(lo / PAGE)
    local text, from, upto = text_of(r, 'e', k), lo % PAGE + 1, math.min(hi - k * PAGE + 1, PAGE)
    put_text(r, 'e', k, sub(text, 1, from - 1) .. rep('\0', upto - from + 1) .. sub(text, upto + 1))
    lo = (k + 1) * PAGE
  end
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
