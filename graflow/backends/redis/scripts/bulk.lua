-- What is done with many nodes at once, a page at a time: stopping, resetting and skipping the members of a fan-out.
--
-- One by one they would keep the server for as long as there are any: ten microseconds each.

-- visit(lo, hi, status) for runs of nodes of the same status.
function M.status_runs(r, list, visit)
  for i = 1, #list, 2 do
    local n, hi, first, known = list[i], list[i + 1], list[i], nil
    while n <= hi do
      local k = floor(n / PAGE)
      local base = k * PAGE - 1
      local text, last = page_text(r, k), math.min(hi - base, PAGE)
      local at = n - base
      while at <= last do
        local status = byte(text, at) % 8
        if status ~= known then
          if known then visit(first, at + base - 1, known) end
          first, known = at + base, status
        end
        at = math.min(find(text, other_status(status), at) or PAGE + 1, last + 1)
      end
      n = base + PAGE + 1
    end
    if known then visit(first, hi, known) end
  end
end

-- What a change of so many branches at once means to their scope: each is one node, and nothing was made beside it.
local function count_many(r, sc, rec, lo, hi, before, after)
  local number, d = hi - lo + 1, touch(sc)
  local opened = (after <= ACTIVE and 1 or 0) - (before <= ACTIVE and 1 or 0)
  d.o = d.o + number * opened
  if opened < 0 and d.o == 0 then push(r.drained, sc.order) end
  local spoilt = (after >= FAILED and 1 or 0) - (before >= FAILED and 1 or 0)
  if spoilt ~= 0 then
    d.b = (d.b or 0) + number * spoilt
    for _, branch in ipairs(d.C or sc.group[OF_GROUP.CRITICAL]) do
      if branch >= M.branch(rec, lo) and branch <= M.branch(rec, hi) then d.c = (d.c or 0) + spoilt end
    end
  end
  if sc.early then
    M.count_good(r, sc, number * ((after > ACTIVE and after < FAILED and 1 or 0) - (before > ACTIVE and before < FAILED and 1 or 0)))
    if d.s >= sc.group[OF_GROUP.N] then push(r.drained, sc.order) end
  end
end

-- The same where nothing but open nodes can have changed.
local function count_closed(r, sc, number)
  local d = touch(sc)
  d.o = d.o - number
  if d.o == 0 then push(r.drained, sc.order) end
end

-- The bytes that there are in a text; nil if they are more than a few.
local function kinds_of(text)
  local kinds, seen, at = {}, '', 1
  while at do
    local b = byte(text, at)
    kinds[#kinds + 1], seen = b, seen .. literal(b)
    if #kinds > 4 then return nil end
    at = find(text, '[^' .. seen .. ']', at)
  end
  return kinds
end

-- The same kind of node by kind, for where different ones take turns: the first and the second of two in a row, ten thousand times over. Nil if it
-- cannot be done so: what is stopped is told in order.
local function sweep_kinds(r, sc, text, offset, to, least, most, counts)
  local kinds = kinds_of(text)
  if not kinds or #kinds == 1 then return nil end
  local running, changed = 0, {}
  for _, b in ipairs(kinds) do
    if b % 8 >= FAILED then return nil end
    if b % 8 == ACTIVE then running = running + 1 end
  end
  if running > 1 or to >= FAILED then return nil end
  for _, b in ipairs(kinds) do
    local status = b % 8
    if status ~= to and status >= least and status <= most then
      local new = status == ACTIVE and M.stop_all(r, sc, text, offset, b) or b
      changed[char(b)] = char(new - new % 8 + to)
      if counts then
        local _, number = string.gsub(text, literal(b), '')
        counts(1, number, status)
      end
    end
  end
  return string.gsub(text, '.', changed)
end

-- The part of one page of a sweep: stretch by stretch, and then all its bytes at once.
local function sweep_page(r, sc, n, last, to, least, most, counts, visited)
  local k = floor(n / PAGE)
  local base = k * PAGE - 1
  local text, from, upto = page_text(r, k), n - base, last - base
  local all_alike = end_of_stretch(text, from, upto) == upto
  local at_once = not (visited or all_alike) and sweep_kinds(r, sc, sub(text, from, upto), n - 1, to, least, most, counts)
  if at_once then return put_page_text(r, k, sub(text, 1, from - 1) .. at_once .. sub(text, upto + 1)) end
  local changed, at = {}, from
  while at <= upto do
    local b, stretch = byte(text, at), end_of_stretch(text, at, upto)
    local status = b % 8
    if status ~= to and status >= least and status <= most then
      local new = status == ACTIVE and M.stop_many(r, sc, at + base, stretch + base, b) or b
      changed[char(b)] = char(new - new % 8 + to)
      if counts then counts(at + base, stretch + base, status) end
    end
    if visited and b >= VISITED then visited(at + base, stretch + base) end
    at = stretch + 1
  end
  if next(changed) then
    local swept = all_alike and rep(changed[sub(text, from, from)], upto - from + 1) or string.gsub(sub(text, from, upto), '.', changed)
    if all_alike and #swept == PAGE then return put_page_text(r, k, swept) end
    put_page_text(r, k, sub(text, 1, from - 1) .. swept .. sub(text, upto + 1))
  end
end

-- Give nodes of one scope the status `to`: those whose status is from `least` to `most`; what runs is stopped. Members of a fan-out are done a page
-- at a time, and of a run that has ended all tasks are: nobody counts any more. What is more than that is left to other(n). visited(lo, hi) hears of
-- those done at once that have been visited before.
function M.sweep(r, sc, list, to, least, most, other, visited)
  local simple = sc.n ~= RUN and not (sc.d.d and (sc.early or to >= FAILED or (sc.d.b or 0) > 0)) -- else branches may be more than one node
  local plain = simple and most <= ACTIVE and to == CANCELLED and sc.group[OF_GROUP.PLAIN] == 1 and (not sc.early or sc.group[OF_GROUP.EVEN] ~= false)
  for i = 1, #list, 2 do
    local n, hi = list[i], list[i + 1]
    read_pages(r, n, hi)
    while n <= hi do
      local last
      if r.ended then last = M.tasks_until(r, n) elseif plain then last = hi elseif simple then last = M.alike_until(r, n) end
      if not last then
        other(n)
        n = n + 1
      else
        last = math.min(last, hi, (floor(n / PAGE) + 1) * PAGE - 1)
        local rec = not (r.ended or plain) and M.rec(r, n)
        sweep_page(r, sc, n, last, to, least, most, not r.ended and function(from, upto, status)
          if plain then count_closed(r, sc, upto - from + 1) else count_many(r, sc, rec, from, upto, status, to) end
        end, visited)
        n = last + 1
      end
    end
  end
  if plain and sc.early and not r.ended then -- all are decided now, and all that did not fail count as good
    M.count_good(r, sc, size_of(M.lasts(r, sc)) - (sc.d.b or 0) - (sc.d.s or 0))
    if sc.d.s >= sc.group[OF_GROUP.N] then push(r.drained, sc.order) end
  end
end

-- New nodes, all of one status.
function M.fill(r, lo, hi, status)
  local n = lo
  while n <= hi do
    local k = floor(n / PAGE)
    if n == k * PAGE and hi >= n + PAGE - 1 then
      r.pages.s[k], r.dirty.s[k] = nil, nil
      write(r, 's' .. k, rep(char(status), PAGE))
      n = n + PAGE
    else
      put(r, 's', n, status)
      n = n + 1
    end
  end
end

-- What is in these ranges, as a table to be asked: of nodes, and whether it holds all of other ranges.
function M.region_of(list)
  local region = {}
  function region.holds(others_)
    for i = 1, #others_, 2 do
      if #without({ others_[i], others_[i + 1] }, list) > 0 then return false end
    end
    return true
  end
  return setmetatable(region, { __index = function(_, n) return within(list, n) end })
end
