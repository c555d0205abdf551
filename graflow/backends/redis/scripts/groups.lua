-- Groups: entering one, making the members of a mapped one, judging its policy, closing it: core/groups.py.

-- ---- entering ----

-- Make the members undecided, and make them at all in a mapped group; what cannot be expanded is returned.
function M.prepare_scope(r, sc)
  local d = touch(sc)
  M.keep_result(r, sc)
  d.e, d.g, d.l = nil, nil, nil
  M.forget_dynamic(r, sc)
  if sc.group[OF_GROUP.MAPPING] then return M.expand(r, sc, sc.group[OF_GROUP.MAPPING]) end
  if d.u then
    local members = M.members(r, sc)
    if r.v[WENT] > 0 then
      for n in pairs(went(r)) do
        if within(members, n) then went(r)[n] = nil end -- what a dynamic task of the last visit had gone to
      end
      count_went(r)
    end
    M.reset(r, sc, members)
  end
  d.u = 1
end

-- The result of the last visit stays readable while its members are visited again, and are given new results one by one (31).
function M.keep_result(r, sc)
  if not M.result_keys(r, sc.n) or field(r, 'F' .. sc.n) then return end
  write(r, 'F' .. sc.n, pack(M.group_values(r, sc.n)))
end

-- Each visit of a group forgets the tasks that were made in the last one (25).
function M.forget_dynamic(r, sc)
  local made = sc.d.d
  if not made then return end
  for _, n in ipairs(made) do
    M.mark(r, n, CANCELLED) -- whatever it was, it no longer counts against its branch
    M.forget(r, n)
    if r.v[AGAIN] > 0 and count(r, 'a' .. n) then
      set_count(r, 'a' .. n, nil)
      drop(r, 'A' .. n)
      r.v[AGAIN] = r.v[AGAIN] - 1
    end
    local d = M.made_record(r, n)
    d[OF_MADE.ALIVE] = 0
    M.save_made(r, n, d)
  end
  touch(sc).d = nil
end

-- A member that there is none of any more has neither result nor error.
function M.forget(r, n)
  M.drop_result(r, n)
  M.drop_error(r, n)
end

-- The same for members side by side.
function M.forget_many(r, lo, hi)
  for n = lo, hi do M.forget(r, n) end
end

-- One member for each item of the source's result (27).
function M.expand(r, sc, mapping)
  local items, problem = nil, nil
  local source = mapping[1]
  local known = M.has_result(r, source) and M.items(r, source) or nil
  if known == nil then
    problem = { 0, 'm', 'no_items', source }
  elseif type(known) == 'string' then
    problem = { 0, 'm', 'not_a_list', source, known }
  else
    items = known
    problem = M.make_members(r, sc, mapping, items) or M.check_policy(r, sc, mapping, items)
  end
  M.use_members(r, sc, (problem or not items) and 0 or items)
  return problem
end

-- How many items the result of a node has, the name of its type if it cannot be mapped over, nil if nobody said.
function M.items(r, n)
  local value = r.item_counts and r.item_counts[n] or field(r, 'C' .. n)
  return value and (tonumber(value) or value) or nil
end

function M.set_items(r, n, value)
  r.item_counts = r.item_counts or {}
  r.item_counts[n] = tostring(value)
  write(r, 'C' .. n, tostring(value))
end

-- The number of a node made at run time, by its id: what next_task(new) made, or a member of a mapped group.
function M.find_made(r, id)
  local n = r.v[MADE] > 0 and call('HGET', r.key, 'X' .. id)
  if n then return tonumber(n) end
  if r.v[RANGES] > 0 then
    local task, place = string.match(id, '^(.*)%[(%d+)%]$')
    local owner = task and (tostring(tonumber(place)) == place) and call('HGET', r.key, 'Y' .. task)
    if owner then
      local sc = M.scope(r, tonumber(owner))
      local k, at = tonumber(place), 0
      local pool = sc.d.P or {}
      for i = 1, #pool, 2 do
        local size = pool[i + 1] - pool[i] + 1
        if k < at + size then return pool[i] + k - at end
        at = at + size
      end
    end
  end
end

function M.make_members(r, sc, mapping, items)
  local d = touch(sc)
  local have = d.K or 0
  if items <= have then return nil end
  local taken = mapping[6] and mapping[6] >= have and mapping[6] < items and mapping[6] or nil
  local owner = call('HGET', r.key, 'Y' .. mapping[2])
  if owner and tonumber(owner) ~= sc.n then
    local other = M.scope(r, tonumber(owner)).d.K or 0
    if have < other and not (taken and taken < have) then taken = have end
  end
  if r.v[MADE] > 0 then
    for place = have, (taken or items) - 1 do
      if call('HEXISTS', r.key, 'X' .. mapping[2] .. '[' .. place .. ']') == 1 then
        taken = place
        break
      end
    end
  end
  local upto = taken or items
  if upto > have then
    if not owner then call('HSET', r.key, 'Y' .. mapping[2], sc.n) end
    local lo = M.add_range(r, sc.n, have, upto - have)
    local pool = d.P or {}
    if #pool > 0 and pool[#pool] == lo - 1 then pool[#pool] = lo + upto - have - 1 else pool[#pool + 1], pool[#pool + 2] = lo, lo + upto - have - 1 end
    d.P, d.K = pool, upto
    M.fill(r, lo, lo + upto - have - 1, CANCELLED)
    if r.v[LIMIT_GIVEN] == 0 then r.v[STEP_LIMIT] = r.v[STEP_LIMIT] + upto - have end
  end
  if taken then return { 0, 'm', 'taken', mapping[2] .. '[' .. taken .. ']' } end
end

function M.use_members(r, sc, items)
  local d = touch(sc)
  local at, surplus = 0, {}
  local pool = d.P or {}
  for i = 1, #pool, 2 do
    local first = pool[i] + math.max(0, items - at)
    if first <= pool[i + 1] then surplus[#surplus + 1], surplus[#surplus + 2] = first, pool[i + 1] end
    at = at + pool[i + 1] - pool[i] + 1
  end
  M.sweep(r, sc, surplus, CANCELLED, WAITING, BROKEN, function(n)
    M.mark(r, n, CANCELLED)
    M.forget(r, n)
  end, function(lo, hi) M.forget_many(r, lo, hi) end)
  d.k = items
  M.sweep(r, sc, M.members(r, sc), WAITING, ACTIVE, BROKEN, function(n) M.mark(r, n, WAITING) end)
  if sc.early then d.s = 0 end -- a branch that there is none of any more has not succeeded
end

-- What a build would have refused can be known of a mapped group only now (26).
function M.check_policy(r, sc, mapping, items)
  local policy = sc.group[OF_GROUP.POLICY]
  if policy == POLICY.AT_LEAST and sc.group[OF_GROUP.N] > items then return { 0, 'm', 'too_few', sc.group[OF_GROUP.N], items } end
  if policy ~= POLICY.CRITICAL then return nil end
  local unknown = {}
  for i, place in ipairs(mapping[7]) do
    if place < 0 or place >= items then unknown[#unknown + 1] = i - 1 end
  end
  if #unknown > 0 then return { 0, 'm', 'no_such_critical', unknown } end
  local d = touch(sc)
  d.C, d.c = mapping[7], 0
  for _, place in ipairs(mapping[7]) do
    if is_bad(r, sc, place) then d.c = d.c + 1 end
  end
end

-- A group that is skipped or broken is so as a whole; its members have no results (25).
function M.pass_over_members(r, sc, status)
  touch(sc).u = 1
  M.sweep(r, sc, M.members(r, sc), status, WAITING, BROKEN, function(n)
    M.mark(r, n, status)
    M.forget(r, n)
    if M.rec(r, n)[KIND] == 1 then M.pass_over_members(r, M.scope(r, n), status) end
  end, function(lo, hi) M.forget_many(r, lo, hi) end)
end

-- ---- judging ----

-- Whether the policy can no longer be met, whatever the open members do.
function M.is_hopeless(r, sc)
  local bad = sc.d.b or 0
  if bad == 0 or not sc.group then return false end
  local policy = sc.group[OF_GROUP.POLICY]
  if policy == POLICY.STRICT then return true end
  if policy == POLICY.CRITICAL then return (sc.d.c or 0) > 0 end
  if policy == POLICY.AT_LEAST then return size_of(M.lasts(r, sc)) - bad < sc.group[OF_GROUP.N] end
  return false
end

-- The group has drained, or has what its policy asks for: let it succeed or fail.
function M.close_group(r, sc)
  if sc.d.o > 0 then return M.close_early(r, sc) end
  if M.is_hopeless(r, sc) then return M.fail_group(r, sc) end
  if sc.group[OF_GROUP.POLICY] == POLICY.CUSTOM then return M.ask_policy(r, sc) end
  M.complete_group(r, sc, M.lasts(r, sc))
end

-- at_least_n(n, early=True): enough branches have succeeded, the others are not waited for.
function M.close_early(r, sc)
  if (sc.d.s or 0) < sc.group[OF_GROUP.N] then return end
  local lasts = M.lasts_of_good(r, sc)
  M.stop_members(r, sc)
  M.complete_group(r, sc, lasts)
end

-- The last nodes of the branches that have succeeded.
function M.lasts_of_good(r, sc)
  local list, good, branch, left = M.lasts(r, sc), {}, 0, sc.d.s or 0
  for i = 1, #list, 2 do
    local n, hi = list[i], list[i + 1]
    while n <= hi and left > 0 do
      local last = not sc.d.d and M.alike_until(r, n)
      if last then
        last = math.min(last, hi)
        M.status_runs(r, { n, last }, function(lo, upto, status)
          if status > ACTIVE and status < FAILED then append_many(good, lo, upto) end
        end)
      else
        last = n
        if M.is_good(r, sc, branch) then
          append_many(good, n, n)
          left = left - 1
        end
      end
      branch, n = branch + last - n + 1, last + 1
    end
  end
  return good
end

-- A policy of the user's cannot run here: a worker is asked for its verdict (24).
function M.ask_policy(r, sc)
  if sc.d.j then return end
  touch(sc).j = 1
  M.start(r, sc.n)
end

function M.take_verdict(r, n, met, err)
  local sc = M.scope(r, n)
  touch(sc).j = nil
  if err then M.fail(r, n, { 0, 't', err }) elseif met then M.complete_group(r, sc, M.lasts(r, sc)) else M.fail_group(r, sc) end
end

-- Those of the branches' last nodes whose result may be passed on: a branch that failed elsewhere has none (23).
function M.with_results(r, sc, lasts)
  local keys = {}
  M.status_runs(r, lasts, function(lo, hi, status)
    if status ~= DONE then return end
    local n = lo
    while n <= hi do
      local last = (sc.d.b or 0) == 0 and hi or not sc.d.d and M.alike_until(r, n)
      if last or not is_bad(r, sc, M.branch(M.rec(r, n), n)) then append_many(keys, n, math.min(last or n, hi)) end
      n = (last or n) + 1
    end
  end)
  return keys
end

function M.complete_group(r, sc, lasts)
  local n = sc.n
  local keys = M.with_results(r, sc, lasts)
  M.set_result_keys(r, n, keys)
  if field(r, 'F' .. n) then drop(r, 'F' .. n) end
  M.set_items(r, n, size_of(keys))
  M.drop_error(r, n)
  M.mark(r, n, DONE)
  M.note(r, 'group_succeeded', n)
  if sc.d.g then
    local gotos, seen = {}, {}
    for _, goto_ in ipairs(sc.d.g) do
      local name = goto_[1] .. ':' .. goto_[2]
      if not seen[name] then
        seen[name] = true
        gotos[#gotos + 1] = { goto_[1], goto_[2] }
      end
    end
    M.go(r, n, gotos)
  else
    M.go_on(r, n, sc.d.l ~= nil)
  end
end

-- Branches of the same length follow one another, mostly: then no record tells which one a member belongs to.
local function branch_of(sc, r, n)
  local length = n < r.v[PLANNED] and sc.group[OF_GROUP.EVEN]
  if length then return floor((n - sc.group[OF_GROUP.LO]) / length) end
  return M.branch(M.rec(r, n), n)
end

-- The policy was not met: cancel what is left and fail the group with its branches' errors.
function M.fail_group(r, sc)
  M.stop_members(r, sc)
  local members, lasts = M.members(r, sc), M.lasts(r, sc)
  local failed, cancelled, skipped, causes = {}, {}, {}, {}
  local function add_failed(last, n)
    failed[#failed + 1], failed[#failed + 2] = last, n
    causes[#causes + 1] = M.error_of(r, n)
  end
  if size_of(members) == size_of(lasts) then -- each branch is one node
    M.status_runs(r, lasts, function(lo, hi, status)
      if status == FAILED then
        for n = lo, hi do add_failed(n, n) end
      elseif status == CANCELLED or status == SKIPPED then
        append_many(status == CANCELLED and cancelled or skipped, lo, hi)
      end
    end)
  else
    local failures, stopped, branch = {}, {}, 0
    M.status_runs(r, members, function(lo, hi, status)
      for n = lo, (status == FAILED or status == CANCELLED) and hi or lo - 1 do
        local b = branch_of(sc, r, n)
        if status == CANCELLED then stopped[b] = true else failures[b] = failures[b] or n end
      end
    end)
    each(lasts, function(last)
      if failures[branch] then
        add_failed(last, failures[branch])
      elseif stopped[branch] then
        append_range(cancelled, last)
      elseif M.status(r, last) == SKIPPED then
        append_range(skipped, last)
      end
      branch = branch + 1
    end)
  end
  M.fail(r, sc.n, { 0, 'g', M.attempt(r, sc.n), sc.group[OF_GROUP.MAPPING] and lasts or false, failed, cancelled, skipped, causes })
end
