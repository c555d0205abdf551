-- A run as the scripts see it: loaded piece by piece when it is asked for, written back once.
--
-- The rules stand in graflow/core and are written again in board.lua, attempts.lua, groups.lua, rounds.lua, directives.lua and run.lua,
-- function by function under the same names; numbers in comments are the rules of docs/semantics.md.
--
-- KEYS[1] is the partition's prefix, "{namespace:p}:"; KEYS[2] what names of pub/sub begin with, where that is something else. ARGV[1] is what to add to the server's time, in milliseconds (0 but in tests).
--
-- The hash run:<id> holds: st plan v (what every script needs), s<k> and e<k> (pages of 256 nodes or edges, one byte each), S<n> (a scope),
-- L<n> (a loop), N<n> (a node that was visited more than once, or not by an edge), E<n> (an error), K<n> (what a group's result is made of),
-- D<n> (a task made at run time), agenda and agenda<k> (what is put off, and edges behind that), and little counters.

local P, T, call = KEYS[1], KEYS[2] or KEYS[1], redis.call
local pack, unpacked = cmsgpack.pack, cmsgpack.unpack
local floor, byte, char = math.floor, string.byte, string.char
local sub, find, rep = string.sub, string.find, string.rep

local WAITING, ACTIVE, DONE, SKIPPED, CANCELLED, HANDLED, FAILED, BROKEN = 0, 1, 2, 3, 4, 5, 6, 7
local FIRE, SKIP, BREAK = 1, 2, 3
local RUN = -1
-- A node's byte: its status in the low three bits, and above them
local VISITED, EXTRA, PLACELESS, SUSPENDED, PLACED = 8, 16, 32, 64, 128
-- A node of the plan, as backends/redis/plans.py writes it
local KIND, SCOPE, BRANCH, OUTS, INS, RELEASED, AROUND, MAX_CYCLES, STREAM, NEEDS, FLAGS, GROUP = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12
local OF_GROUP = { LO = 1, HI = 2, POLICY = 3, N = 4, EARLY = 5, CRITICAL = 6, LIMIT = 7, DEPTH = 8, ROOTS = 9, LASTS = 10, SIZES = 11, MAPPING = 12, PLAIN = 13, EVEN = 14 }
local POLICY = { STRICT = 0, BEST_EFFORT = 1, AT_LEAST = 2, CRITICAL = 3, CUSTOM = 4 }
-- The numbers of a run that every script needs
local STEPS, STEP_LIMIT, LIMIT_GIVEN, OUT, LIVE, SUSPENSIONS, NEXT, SEQUENCE, CONTINUING, WENT, CONTINUE, GENERATION, JUMPS, MADE, PLANNED, ERRORS, AGAIN, RANGES, KEEP, ALIKE, LACKING =
  1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21
local VISIT, EXTRA_ATTEMPT, RETRIES, CAME_FROM, ITERATED = 1, 2, 3, 4, 5

local M = {}

-- Parts that few calls need: what is in them is made when it is first asked for. Making all of them costs as much as a small call does.
local unread = {}
local function seldom(part) unread[#unread + 1] = part end
setmetatable(M, {
  __index = function(_, name)
    while #unread > 0 do
      table.remove(unread)()
      local found = rawget(M, name)
      if found then return found end
    end
  end,
})

local runs, touched = {}, {}
local PAGE = 256
local SLICE = 4000

local time
function M.now()
  if not time then
    local t = call('TIME')
    time = t[1] * 1000 + floor(t[2] / 1000) + tonumber(ARGV[1])
  end
  return time
end

local function many(command, key, list)
  for i = 1, #list, SLICE do call(command, key, unpack(list, i, math.min(i + SLICE - 1, #list))) end
end

-- ---- a run ----

local function fresh(id, key, st, plan, v)
  return {
    id = id, key = key, st = st, digest = plan, plan = P .. 'plan:' .. plan, v = v, recs = {}, pages = { s = {}, e = {} }, raw = {},
    dirty = { s = {}, e = {} }, extras = {}, changed = {}, scopes = {}, loops = {}, loop_recs = {}, joins = {}, counts = {}, count_changes = {},
    results = {}, read = {}, fields = {}, starts = {}, stops = {}, started = {}, events = {}, made = {},
    edges = { first = 1 }, looks = { first = 1 }, visits = { first = 1 }, admissions = { first = 1 }, regions = { first = 1 }, line = { 1, 0 }, tail = {}, drained = {}, prefix = nil,
  }
end

-- The run of that id, false if there is none.
function M.load(id)
  local r = runs[id]
  if r ~= nil then return r end
  local key = P .. 'run:' .. id
  local f = call('HMGET', key, 'st', 'plan', 'v', 'S-1', 's0', 'e0')
  if not f[1] or not f[3] then
    runs[id] = false
    return false
  end
  r = fresh(id, key, f[1], f[2], unpacked(f[3]))
  r.raw.s0, r.raw.e0, r.raw['S-1'], r.was_live = f[5], f[6], f[4], r.v[LIVE]
  runs[id] = r
  touched[#touched + 1] = r
  if r.v[CONTINUING] ~= 0 then M.load_agenda(r) end
  return r
end

function M.create(id, digest, v)
  local r = fresh(id, P .. 'run:' .. id, 'r', digest, v)
  r.new = true
  runs[id] = r
  touched[#touched + 1] = r
  return r
end

function M.is_over(r) return r.ended ~= nil or r.st ~= 'r' end

local function field(r, name)
  local value = r.fields[name]
  if value ~= nil then return value end
  value = r.raw[name]
  if value ~= nil then return value end
  if r.new then return false end
  return call('HGET', r.key, name)
end

-- ---- pages: one byte for each node or edge ----

local function page_of(r, kind, k)
  local s = field(r, kind .. k)
  local page = s and { byte(s, 1, -1) } or {}
  r.pages[kind][k] = page
  return page
end

local function get(r, kind, n)
  local k = floor(n / PAGE)
  return (r.pages[kind][k] or page_of(r, kind, k))[n - k * PAGE + 1] or 0
end

local function put(r, kind, n, value)
  local k = floor(n / PAGE)
  local page, i = r.pages[kind][k] or page_of(r, kind, k), n - k * PAGE + 1
  for hole = #page + 1, i - 1 do page[hole] = 0 end
  page[i] = value
  r.dirty[kind][k] = true
end

function M.status(r, n) return get(r, 's', n) % 8 end

local function has(r, n, flag) return get(r, 's', n) % (2 * flag) >= flag end

local function flag(r, n, what, on)
  local b = get(r, 's', n)
  if (b % (2 * what) >= what) ~= on then put(r, 's', n, on and b + what or b - what) end
end

-- ---- what is written of nodes and scopes only when it is out of the ordinary ----

function M.extra(r, n)
  local x = r.extras[n]
  if not x then
    local b = get(r, 's', n)
    if b % (2 * EXTRA) >= EXTRA then
      x = unpacked(call('HGET', r.key, 'N' .. n))
    else
      local visits = b % (2 * VISITED) >= VISITED and 1 or 0
      x = { visits, visits, 0, false, 0 }
    end
    r.extras[n] = x
  end
  return x
end

local function change(r, n)
  r.changed[n] = true
  return M.extra(r, n)
end

-- Whether there is more to be known of a node's visits than that there was one, or none.
function M.is_special(r, n) return r.extras[n] ~= nil or has(r, n, EXTRA) end

-- Most visits are a node's first, by an edge, and their first attempt: one bit says so.
local function visit_number(r, n, which)
  local x = r.extras[n]
  if x then return x[which] end
  local b = get(r, 's', n)
  if b % (2 * EXTRA) < EXTRA then return b % (2 * VISITED) >= VISITED and 1 or 0 end
  return M.extra(r, n)[which]
end

function M.cycle(r, n) return visit_number(r, n, VISIT) end
function M.attempt(r, n) return visit_number(r, n, EXTRA_ATTEMPT) end

-- A little counter of the run's hash, nil where there is none.
local function count(r, name)
  local value = r.counts[name]
  if value == nil then
    value = tonumber(field(r, name) or nil) or false
    r.counts[name] = value
  end
  return value or nil
end

local function set_count(r, name, value)
  r.counts[name] = value or false
  r.count_changes[name] = true
end

local function write(r, name, value) r.fields[name] = value end
local function drop(r, name) r.fields[name] = false end

-- ---- the plan ----

local function degree(runs_of)
  local sum = 0
  for i = 1, #runs_of, 4 do sum = sum + runs_of[i + 1] - runs_of[i] + 1 end
  return sum
end

local function planned(r, n)
  local rec = unpacked(call('HGET', r.plan, n))
  rec.indegree = degree(rec[INS])
  return rec
end

-- One record stands for the members of a fan-out, which differ in their branches only.
local function alikes(r)
  if not r.alike then r.alike = r.v[ALIKE] > 0 and unpacked(call('HGET', r.plan, 'alike')) or {} end
  return r.alike
end

local function alike(r, n)
  for _, a in ipairs(alikes(r)) do
    if n >= a[1] and n <= a[2] then
      if not a.rec then
        a.rec = { 0, a[3], 0, {}, {}, false, false, a[5], a[6], a[7], 0, false }
        a.rec.indegree, a.rec.base, a.rec.last = 0, a[4] - a[1], a[2]
      end
      return a.rec
    end
  end
end

-- The branch of a node's group that it belongs to. Nodes that are alike share one record.
function M.branch(rec, n) return rec.base and rec.base + n or rec[BRANCH] end

-- What is known of a node: of the plan, or made at run time in the same form.
function M.rec(r, n)
  local rec = r.recs[n]
  if rec then return rec end
  if n >= r.v[PLANNED] then
    rec = M.made(r, n)
  elseif r.v[ALIKE] > 0 then
    rec = alike(r, n) or planned(r, n)
  else
    rec = planned(r, n)
  end
  r.recs[n] = rec
  return rec
end

-- The last of the nodes from n on that are alike: tasks without edges, in no loop, each a branch of its own. Nil if n is not so plain.
function M.alike_until(r, n)
  local rec = M.rec(r, n)
  return rec.base and rec.last
end

-- The last of the nodes from n on that are no groups, nil if n is one. At the end of a run nothing else matters any more.
function M.tasks_until(r, n)
  if not r.groups then
    local s = call('HGET', r.plan, 'groups')
    r.groups, r.group_at = s and unpacked(s) or {}, 1
  end
  local list, i = r.groups, r.group_at
  if list[i - 2] and n <= list[i - 1] then i = 1 end
  while list[i] and list[i + 1] < n do i = i + 2 end
  r.group_at = i
  if not list[i] then return r.v[NEXT] - 1 end
  return n < list[i] and list[i] - 1 or nil
end

function M.head(r)
  if not r.plan_head then r.plan_head = unpacked(call('HGET', r.plan, 'head')) end
  return r.plan_head
end

-- Ranges of members made for the items of mapped groups: lo, hi, group, place of lo.
local function ranges(r)
  if not r.ranges then
    local s = r.v[RANGES] > 0 and field(r, 'R')
    r.ranges = s and unpacked(s) or {}
  end
  return r.ranges
end

function M.made_record(r, n)
  local d = r.made[n]
  if d == nil then
    local s = field(r, 'D' .. n)
    d = s and unpacked(s) or false
    r.made[n] = d
  end
  return d
end

function M.save_made(r, n, d)
  r.made[n], r.recs[n] = d, nil
  write(r, 'D' .. n, pack(d))
end

-- maker, scope, branch, id, stream, max_cycles, needs, chain of makers, task, 1 while its maker's visit lasts
local OF_MADE = { MAKER = 1, SCOPE = 2, BRANCH = 3, ID = 4, STREAM = 5, MAX_CYCLES = 6, NEEDS = 7, CHAIN = 8, TASK = 9, ALIVE = 10 }

function M.made(r, n)
  local list = ranges(r)
  for i = 1, #list do
    local range = list[i]
    if n >= range[1] and n <= range[2] then
      if not range.rec then
        local m = M.rec(r, range[3])[GROUP][OF_GROUP.MAPPING]
        range.rec = { 0, range[3], 0, {}, {}, false, false, m[3], m[4], m[5], 0, false }
        range.rec.indegree, range.rec.item, range.rec.maker, range.rec.alive = 0, true, range[3], true
        range.rec.base, range.rec.last = range[4] - range[1], range[2]
      end
      return range.rec
    end
  end
  local d = M.made_record(r, n)
  local rec = { 0, d[OF_MADE.SCOPE], d[OF_MADE.BRANCH], {}, {}, false, false, d[OF_MADE.MAX_CYCLES], d[OF_MADE.STREAM], d[OF_MADE.NEEDS], 0, false }
  rec.indegree, rec.maker, rec.alive, rec.single = 0, d[OF_MADE.MAKER], d[OF_MADE.ALIVE] == 1, true
  return rec
end

function M.add_range(r, group, place, count_)
  local list, lo = ranges(r), r.v[NEXT]
  list[#list + 1] = { lo, lo + count_ - 1, group, place }
  r.v[NEXT], r.v[RANGES] = lo + count_, #list
  r.ranges_changed = true
  return lo
end

-- ---- scopes and loops ----

-- o open, e entered, u used before, b failed branches, c critical ones among them, s succeeded branches (early policies), p members with a
-- place, h those that wait for one (lo, hi, cycle...), g gotos, l leavers, d tasks made in it, k members in use and K ever made of a mapped
-- group with P their ranges, C critical branches of a mapped one, j a custom policy has been asked
function M.scope(r, n)
  local sc = r.scopes[n]
  if sc then return sc end
  local s = field(r, 'S' .. n)
  local group = n ~= RUN and M.rec(r, n)[GROUP] or nil
  local d = s and unpacked(s) or { o = group and group[OF_GROUP.HI] - group[OF_GROUP.LO] + 1 or 0 }
  sc = { n = n, d = d, group = group, early = group ~= nil and group[OF_GROUP.EARLY] == 1, order = M.order(1, group and group[OF_GROUP.DEPTH] or 0, n) }
  r.scopes[n] = sc
  return sc
end

local function touch(sc)
  sc.dirty = true
  return sc.d
end

-- Regions close from the inside: loops before groups, the deepest first. One number, so that a heap of numbers will do.
function M.order(kind, depth, n) return kind * 2 ^ 42 + (2 ^ 20 - depth) * 2 ^ 21 + n + 1 end

-- The members as ranges lo, hi, lo, hi...
function M.members(r, sc)
  local list = {}
  if sc.n == RUN then
    local h = M.head(r)
    if h[3] <= h[4] then list = { h[3], h[4] } end
  elseif sc.group[OF_GROUP.MAPPING] then
    local left = sc.d.k or 0
    local pool = sc.d.P or {}
    for i = 1, #pool, 2 do
      if left <= 0 then break end
      local size = math.min(left, pool[i + 1] - pool[i] + 1)
      list[#list + 1], list[#list + 2] = pool[i], pool[i] + size - 1
      left = left - size
    end
  elseif sc.group[OF_GROUP.LO] <= sc.group[OF_GROUP.HI] then
    list = { sc.group[OF_GROUP.LO], sc.group[OF_GROUP.HI] }
  end
  for _, n in ipairs(sc.d.d or {}) do list[#list + 1], list[#list + 2] = n, n end
  return list
end

-- The last node of each branch, as ranges.
function M.lasts(r, sc)
  if not sc.group[OF_GROUP.MAPPING] then return sc.group[OF_GROUP.LASTS] end
  local members, list = M.members(r, sc), {}
  local left = sc.d.k or 0
  for i = 1, #members, 2 do
    if left > 0 then list[#list + 1], list[#list + 2] = members[i], members[i + 1] end
    left = left - (members[i + 1] - members[i] + 1)
  end
  return list
end

-- Whether a region is still being made undecided again: rounds.lua.
local function in_pieces(r) return r.regions[r.regions.first] end

-- header, body, back, leaving, exits, depth, scope
local OF_LOOP = { HEADER = 1, BODY = 2, BACK = 3, LEAVING = 4, EXITS = 5, DEPTH = 6, SCOPE = 7 }

function M.loop_rec(r, k)
  local rec = r.loop_recs[k]
  if not rec then
    rec = unpacked(call('HGET', r.plan, 'L' .. k))
    r.loop_recs[k] = rec
  end
  return rec
end

-- o open, b failed, x ended, l who left, t gotos to the header, p gotos out of it
function M.loop(r, k)
  local loop = r.loops[k]
  if not loop then
    local s = field(r, 'L' .. k)
    local rec = M.loop_rec(r, k)
    loop = { n = k, rec = rec, d = s and unpacked(s) or { o = size_of(rec[OF_LOOP.BODY]), b = 0 }, order = M.order(0, rec[OF_LOOP.DEPTH], k) }
    r.loops[k] = loop
  end
  return loop
end

-- ---- results and errors ----

function M.has_result(r, n)
  local known = r.results[n]
  if known ~= nil then return known ~= false end
  if M.rec(r, n)[KIND] == 1 then return M.result_keys(r, n) ~= false end
  return call('HEXISTS', P .. 'res:' .. r.id, n) == 1
end

function M.set_result(r, n, value) r.results[n] = value end

function M.drop_result(r, n)
  if n < r.v[PLANNED] and M.rec(r, n)[KIND] == 1 then
    if M.result_keys(r, n) then
      r.keys[n] = false
      drop(r, 'K' .. n)
      drop(r, 'F' .. n)
    end
  else
    r.results[n] = false
  end
end

-- What a group's result is made of: ranges of nodes, false without a result.
function M.result_keys(r, n)
  r.keys = r.keys or {}
  local keys = r.keys[n]
  if keys == nil then
    local s = field(r, 'K' .. n)
    keys = s and unpacked(s) or false
    r.keys[n] = keys
  end
  return keys
end

function M.set_result_keys(r, n, keys)
  r.keys = r.keys or {}
  r.keys[n] = keys
  write(r, 'K' .. n, pack(keys))
end

-- The result of a node as the bytes of one value, false without one. Values of a group side by side are, behind a header, the bytes of a list.
local ELSEWHERE = 0xc1 -- what a result begins with that is only the name of the key where it is
function M.result_bytes(r, n)
  if n >= r.v[PLANNED] or M.rec(r, n)[KIND] == 0 then
    local value = r.results[n]
    if value == nil then value = r.read[n] end
    if value == nil then value = call('HGET', P .. 'res:' .. r.id, n) end
    if value and byte(value) == ELSEWHERE then value = call('GET', string.sub(value, 2)) end
    return value
  end
  local values = M.group_values(r, n)
  if not values then return false end
  local size = #values
  return char(0xdd, floor(size / 2 ^ 24) % 256, floor(size / 2 ^ 16) % 256, floor(size / 2 ^ 8) % 256, size % 256) .. table.concat(values)
end

-- Results of tasks, read at once.
local function fetch_results(r, lo, hi)
  local names, values = {}, r.read
  for n = lo, hi do names[#names + 1] = n end
  for place, value in ipairs(call('HMGET', P .. 'res:' .. r.id, unpack(names))) do values[names[place]] = value end
end

-- The results that a group's result is made of.
function M.group_values(r, n)
  local keys = M.result_keys(r, n)
  if not keys then return false end
  local kept = field(r, 'F' .. n)
  if kept then return unpacked(kept) end
  local values = {}
  for i = 1, #keys, 2 do
    local m = keys[i]
    while m <= keys[i + 1] do
      local last = M.alike_until(r, m)
      last = last and math.min(last, keys[i + 1], m + SLICE - 1) or m
      if last > m then fetch_results(r, m, last) end
      for each_ = m, last do values[#values + 1] = M.result_bytes(r, each_) or char(0xc0) end
      m = last + 1
    end
  end
  return values
end

-- Errors are rare, and so written at once: their order is that in which they happened.
function M.set_error(r, n, err)
  r.v[SEQUENCE] = r.v[SEQUENCE] + 1
  err[1] = r.v[SEQUENCE]
  local text = pack(err)
  r.v[ERRORS] = r.v[ERRORS] + call('HSET', r.key, 'E' .. n, text)
  if M.rec(r, n)[SCOPE] == RUN then call('ZADD', P .. 'failed:' .. r.id, err[1], n) end
  return text
end

function M.drop_error(r, n)
  if r.v[ERRORS] > 0 then r.v[ERRORS] = r.v[ERRORS] - call('HDEL', r.key, 'E' .. n) end
end

function M.has_error(r, n) return r.v[ERRORS] > 0 and call('HEXISTS', r.key, 'E' .. n) == 1 end

function M.error_of(r, n)
  local s = r.v[ERRORS] > 0 and call('HGET', r.key, 'E' .. n)
  return s and unpacked(s) or nil
end
