-- One run: outcomes in, effects out: core/run.py.

local BUDGET = tonumber(ARGV[2]) -- units of work that one call may do; what is left is a continuation
local LONG = 4e-3 -- seconds of it after which a call puts off the rest all the same
local spent, began = 0, nil

-- Seconds. Servers that let the time stand still for a script have a clock of the processor.
local function clock()
  local os = rawget(_G, 'os')
  if os and os.clock then return os.clock() end
  local t = call('TIME')
  return t[1] + t[2] / 1e6
end

local function takes_long()
  if not began then
    began = clock()
    return false
  end
  return clock() - began > LONG
end

-- ---- outcomes in ----

-- Whether this attempt is the one that counts.
function M.is_running(r, n, cycle, attempt)
  return not M.is_over(r) and n < r.v[NEXT] and M.status(r, n) == ACTIVE and M.cycle(r, n) == cycle and M.attempt(r, n) == attempt
    and not has(r, n, SUSPENDED) and not has(r, n, PLACELESS) and not (in_pieces(r) and M.is_void(r, n))
end

function M.settle(r, n, cycle, attempt, kind, a, b, c)
  if not M.is_running(r, n, cycle, attempt) then return false end
  if in_pieces(r) and (c or kind == 'f' or kind == 'p') then -- what comes of it depends on where the run is
    M.finish_regions(r)
    if not M.is_running(r, n, cycle, attempt) then return false end
  end
  r.v[OUT] = r.v[OUT] - 1
  if kind == 'd' then
    if c then M.obey(r, n, a, b, c) else M.complete(r, n, a, b) end
  elseif kind == 'f' then M.fail(r, n, { 0, 't', a })
  elseif kind == 'r' then M.retry(r, n, a, b, c)
  elseif kind == 's' then M.suspend(r, n, a)
  elseif kind == 'p' then M.take_verdict(r, n, a, b)
  end
  M.settle_down(r)
  return true
end

-- Start a suspended step again; costs no retry and no step (29).
function M.resume(r, n)
  if M.is_over(r) or n >= r.v[NEXT] or not has(r, n, SUSPENDED) or in_pieces(r) and M.is_void(r, n) then return false end
  M.unsuspend(r, n)
  local x = change(r, n)
  x[EXTRA_ATTEMPT] = x[EXTRA_ATTEMPT] + 1
  M.take_place(r, n)
  M.settle_down(r)
  return true
end

-- delay in milliseconds, what is told of the error, whether it counts against the budget
function M.retry(r, n, wait, told, counted)
  M.note(r, 'task_retrying', n, told)
  local x = change(r, n)
  x[EXTRA_ATTEMPT] = x[EXTRA_ATTEMPT] + 1
  if counted then x[RETRIES] = x[RETRIES] + 1 end
  M.start(r, n, wait)
end

function M.suspend(r, n, reason)
  flag(r, n, SUSPENDED, true)
  r.v[SUSPENSIONS] = r.v[SUSPENSIONS] + 1
  write(r, 'Z' .. n, reason)
  M.note(r, 'task_suspended', n, reason)
  if has(r, n, PLACED) then M.give_place_back(r, M.scope(r, M.rec(r, n)[SCOPE]), n) end
end

-- ---- a scope is entered, a node is decided ----

-- Visit what nothing leads to (3); an empty group completes at once (26).
function M.enter_scope(r, sc)
  touch(sc).e = 1
  local roots
  if sc.n == RUN then
    roots = M.head(r)[7]
  elseif sc.group[OF_GROUP.MAPPING] then
    roots = M.members(r, sc)
  else
    roots = sc.group[OF_GROUP.ROOTS]
  end
  for i = 1, #roots, 2 do add(r.visits, { roots[i], roots[i + 1] }) end
  M.consider(r, sc)
end

-- A task has succeeded and asked for nothing: its edges fire.
function M.complete(r, n, value, items)
  M.record(r, n, value, items)
  M.want_on_success(r, n)
  M.release(r, n)
end

function M.record(r, n, value, items)
  M.set_result(r, n, value)
  if items then M.set_items(r, n, items) end
  M.drop_error(r, n) -- of an earlier visit
  M.mark(r, n, DONE)
  M.note(r, 'task_succeeded', n)
end

-- A task or group has failed for good.
function M.fail(r, n, err)
  local told = M.set_error(r, n, err)
  M.drop_result(r, n)
  local rec = M.rec(r, n)
  M.note(r, rec[KIND] == 1 and 'group_failed' or 'task_failed', n, told)
  if rec[FLAGS] >= 2 then return M.hand_failure_on(r, n) end
  M.mark(r, n, FAILED)
  local sc = M.scope(r, rec[SCOPE])
  if sc.n == RUN and r.v[CONTINUE] == 0 then
    M.finish(r, 'failed', 'failed', n)
  elseif sc.n ~= RUN and M.is_hopeless(r, sc) then
    M.fail_group(r, sc)
  else
    M.want_all(r, n, BREAK)
    M.release(r, n)
  end
end

-- A failure or always edge takes the failure: the run goes on there (2).
function M.hand_failure_on(r, n)
  M.mark(r, n, HANDLED)
  each_out(M.rec(r, n), function(e, _, on) set_want(r, e, on == 0 and SKIP or FIRE) end)
  M.release(r, n)
end

-- A dead path: the node does not run, and what follows it learns why (1).
function M.pass_on(r, n, status)
  M.mark(r, n, status)
  if r.v[WENT] > 0 and went(r)[n] then
    went(r)[n] = nil
    count_went(r)
  end
  M.forget(r, n)
  M.note(r, 'task_skipped', n, status == BROKEN and 'broken' or nil)
  if M.rec(r, n)[KIND] == 1 then M.pass_over_members(r, M.scope(r, n), status) end
  M.want_all(r, n, status == BROKEN and BREAK or SKIP)
  M.release(r, n)
end

-- Have the edges of a decided node decided; those that leave a loop wait for its end (8).
function M.release(r, n)
  local rec = M.rec(r, n)
  if r.v[AGAIN] > 0 and M.status(r, n) > ACTIVE and count(r, 'a' .. n) and M.is_live(r, rec[SCOPE]) then
    local waiting = unpacked(field(r, 'A' .. n))
    local request = table.remove(waiting, 1)
    if #waiting == 0 then
      r.v[AGAIN] = r.v[AGAIN] - 1
      set_count(r, 'a' .. n, nil)
      drop(r, 'A' .. n)
    else
      write(r, 'A' .. n, pack(waiting))
    end
    M.visit_again(r, n, request)
  elseif M.status(r, n) > ACTIVE then
    local outs = rec[RELEASED] or rec[OUTS]
    for i = 1, #outs, 5 do add_edges(r, { outs[i], outs[i + 1], outs[i + 2], outs[i + 3], n }) end
  end
end

-- ---- moving on ----

local function take(agenda)
  local item = agenda[agenda.first]
  if item ~= nil then
    agenda[agenda.first] = false
    agenda.first = agenda.first + 1
  end
  return item
end

local function next_edge(r)
  if not r.edges[r.edges.first] and not more_edges(r) then return nil end
  local item = r.edges[r.edges.first]
  local e, target = item[1], item[3]
  if e == item[2] then
    take(r.edges)
  else
    item[1], item[3] = e + 1, target + item[4]
  end
  return e, target
end

local function next_visit(r)
  local item = r.visits[r.visits.first]
  if not item then return nil end
  local n = item[1]
  if n == item[2] then take(r.visits) else item[1] = n + 1 end
  return n
end

local function has_agenda(r)
  return in_pieces(r) or r.edges[r.edges.first] or r.line[1] <= r.line[2] or #r.tail > 0 or r.looks[r.looks.first] or r.visits[r.visits.first] or r.admissions[r.admissions.first] or #r.drained > 0
end

-- One unit of work; false when there is none.
local function work_agenda(r)
  local e, target = next_edge(r)
  if e then
    local ready = M.decide(r, e, target)
    if ready then M.look(r, ready) end
    return true
  end
  local n = take(r.looks)
  if n then
    M.look(r, n)
    return true
  end
  n = next_visit(r)
  if n then
    if M.status(r, n) == WAITING then M.visit(r, n) end
    return true
  end
  n = take(r.admissions)
  if n then
    M.admit(r, M.scope(r, n))
    return true
  end
  return #r.drained > 0 and M.close_innermost(r)
end

-- Work the agenda off; close what has drained; until there is nothing left that only the run itself can do, or the call has done enough.
function M.settle_down(r)
  while not r.ended do
    if spent >= BUDGET then
      r.behind = true
      break
    end
    spent = spent + 1
    if spent % 16 == 0 and takes_long() then spent = BUDGET end
    if in_pieces(r) then M.work_region(r) elseif not work_agenda(r) then break end
  end
  if r.ended then
    r.edges, r.looks, r.visits, r.admissions, r.drained = { first = 1 }, { first = 1 }, { first = 1 }, { first = 1 }, {}
    r.regions, r.tail = { first = 1 }, {}
    for k = r.line[1], r.line[2] do drop(r, 'agenda' .. k) end
    r.line = { 1, 0 }
  end
  if #r.stops > 0 then M.drop_short_lived(r) end
end

function M.close_innermost(r)
  local loop, sc = M.pop_drained(r)
  if loop then M.turn(r, loop)
  elseif not sc then return false
  elseif sc.n == RUN then M.conclude(r)
  else M.close_group(r, sc) end
  return true
end

-- All forward edges into a node may be decided: broken is stronger than fired, fired than skipped (1).
function M.look(r, n)
  if M.status(r, n) ~= WAITING then return end
  local undecided, fired, broken = M.join(r, n)
  if undecided > 0 then return end
  if broken > 0 then M.pass_on(r, n, BROKEN)
  elseif fired > 0 or (r.v[WENT] > 0 and went(r)[n]) then M.visit(r, n)
  elseif M.rec(r, n).indegree > 0 then M.pass_on(r, n, SKIPPED) end
end

-- Visit a node: start its first attempt, or enter it when it is a group.
function M.visit(r, n, came_from, iteration)
  if r.ended then return end
  M.note_origin(r, n, came_from)
  if r.v[STEPS] >= r.v[STEP_LIMIT] then return M.finish(r, 'failed', 'steps', n) end
  local most = M.rec(r, n)[MAX_CYCLES]
  if most and M.cycle(r, n) >= most then return M.finish(r, 'failed', 'cycles', n) end
  r.v[STEPS] = r.v[STEPS] + 1
  M.begin_visit(r, n, iteration)
end

-- Remember who led here where the edges do not tell: a goto, a back edge, a maker (30).
function M.note_origin(r, n, came_from)
  local gone = r.v[WENT] > 0 and went(r)[n]
  if gone then
    came_from = {}
    for _, goto_ in ipairs(gone) do came_from[#came_from + 1] = goto_[2] end
    for _, source in ipairs(fired_into(r, M.rec(r, n))) do came_from[#came_from + 1] = source end
    went(r)[n] = nil
    count_went(r)
  end
  if came_from then
    change(r, n)[CAME_FROM] = came_from
  elseif M.is_special(r, n) and M.extra(r, n)[CAME_FROM] and not M.rec(r, n).alive then
    change(r, n)[CAME_FROM] = false
  end
end

function M.conclude(r)
  local failed = r.v[ERRORS] > 0 and call('ZRANGE', P .. 'failed:' .. r.id, 0, -1) or {}
  for _, n in ipairs(failed) do
    if M.status(r, tonumber(n)) == FAILED and M.has_error(r, tonumber(n)) then return M.finish(r, 'failed', 'failed', tonumber(n)) end
  end
  M.finish(r, 'succeeded', 'completed')
end

local FEW = 2 ^ 17 -- nodes of a run whose end takes back each of them; of a larger run the reader does

-- End the run: nothing goes on, and what is out is taken back.
function M.finish(r, status, cause, n, reason)
  r.ended = { status, cause, n or false, reason or '' }
  if cause == 'completed' then -- and so nothing is active any more
  elseif r.v[NEXT] <= FEW then
    M.sweep(r, M.scope(r, RUN), { 0, r.v[NEXT] - 1 }, CANCELLED, ACTIVE, ACTIVE, function(node)
      if M.status(r, node) == ACTIVE then M.stop(r, node) end
    end)
  else
    r.swept = true
  end
  M.drop_short_lived(r)
end

-- ---- what is put off ----

function M.load_agenda(r)
  local s = field(r, 'agenda')
  if not s then return end -- another call has worked it off; the message is still on its way
  local a = unpacked(s)
  r.agenda_known = true
  r.edges, r.looks, r.visits, r.admissions, r.drained = a[1], a[2], a[3], a[4], a[5]
  r.regions, r.line = a[6], a[7]
  r.edges.first, r.looks.first, r.visits.first, r.admissions.first, r.regions.first = 1, 1, 1, 1, 1
end

local function rest(agenda)
  local left = {}
  for i = agenda.first, #agenda do left[#left + 1] = agenda[i] end
  return left
end

local LINE = 1024 -- edges that are read with every continuation; what is behind them is left alone

-- Put what is too much for that into fields of its own.
local function put_by(r)
  local waiting, line = r.tail, r.line
  if line[1] > line[2] then
    local here = rest(r.edges)
    for _, item in ipairs(r.tail) do add(here, item) end
    r.edges, waiting = { first = 1 }, {}
    for i, item in ipairs(here) do add(i <= LINE and r.edges or waiting, item) end
  end
  for i = 1, #waiting, LINE do
    line[2] = line[2] + 1
    write(r, 'agenda' .. line[2], pack({ unpack(waiting, i, math.min(i + LINE - 1, #waiting)) }))
  end
  r.tail = {}
end

-- What the budget did not allow goes on as a message in the stream it concerns, counted as outstanding, fenced and recovered like a task.
function M.put_off_agenda(r)
  if has_agenda(r) and not r.ended then
    put_by(r)
    write(r, 'agenda', pack({ rest(r.edges), rest(r.looks), rest(r.visits), rest(r.admissions), r.drained, rest(r.regions), r.line }))
    if r.v[CONTINUING] == 0 then
      r.v[CONTINUING], r.v[OUT] = 1, r.v[OUT] + 1
      local item = r.visits[r.visits.first]
      local stream = item and M.rec(r, item[1])[STREAM] or ''
      enqueue(stream ~= '' and stream or r.stream or DEFAULT_STREAM, message(r, CONTINUATION, 1, 1, 0, 0))
    end
  elseif r.agenda_known then
    drop(r, 'agenda')
  end
end
