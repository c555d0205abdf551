-- Which attempts to start and which to stop: core/attempts.py.

-- Events by number, as backends/redis/events.py reads them.
local TOLD = {
  run_started = 0, task_started = 1, task_succeeded = 2, task_failed = 3, task_retrying = 4, task_skipped = 5, task_cancelled = 6,
  task_suspended = 7, group_started = 8, group_succeeded = 9, group_failed = 10, iteration = 11, progress = 12, message = 13, no_worker = 14,
  run_finished = 15, tasks_cancelled = 16, task_refused = 17,
}

-- Many that were cancelled one after the other are one event: attempt, and ranges of nodes.
local function tell_cancelled(r)
  local cancelled = r.cancelled
  if not cancelled then return end
  r.cancelled = nil
  local attempt, list = cancelled[1], cancelled[2]
  local alone = #list == 2 and list[1] == list[2]
  r.events[#r.events + 1] = pack(alone and TOLD.task_cancelled or TOLD.tasks_cancelled, list[1], attempt, not alone and pack(list))
end

local function tell(r, what, n, attempt, data)
  tell_cancelled(r)
  r.events[#r.events + 1] = pack(TOLD[what], n, attempt, data or false)
end

local function note_cancelled(r, lo, hi, attempt)
  if not r.cancelled or r.cancelled[1] ~= attempt then
    tell_cancelled(r)
    r.cancelled = { attempt, {} }
  end
  local list = r.cancelled[2]
  if list[#list] == lo - 1 then list[#list] = hi else list[#list + 1], list[#list + 2] = lo, hi end
end

function M.note(r, what, n, data) tell(r, what, n, M.attempt(r, n), data) end

-- What tasks tell while they run: run, generation, node, cycle, attempt, number of the event, data. An attempt that is over has nothing to tell.
--
-- First comes the id of the operation: sent again because the reply was lost, they have been told.
local function tell_all(list)
  if not redis.pcall('SET', P .. 'once:' .. list[1], 1, 'EX', 60, 'NX') then return end
  for i = 2, #list do
    local t = list[i]
    local r = M.load(t[1])
    if r and r.v[GENERATION] == t[2] and (t[3] == RUN and not M.is_over(r) or M.is_running(r, t[3], t[4], t[5])) then
      tell_cancelled(r)
      if t[6] == TOLD.task_started then drop(r, 'U' .. t[3]) end -- somebody can run it after all
      if t[6] == TOLD.no_worker then -- kept for the error of a run whose time runs out
        write(r, 'lacks', t[7])
        r.v[LACKING] = 1
      end
      r.events[#r.events + 1] = pack(t[6], t[3], t[5], t[7])
      r.worked = true
    end
  end
end

-- ---- the messages on a queue ----

-- version, run, plan, generation | node, cycle, attempt, retries, lost workers
local function message(r, n, cycle, attempt, retries, lost)
  if not r.prefix then r.prefix = char(0x99) .. pack(1, r.id, r.digest, r.v[GENERATION]) end
  r.whose = r.whose or string.format(' %d %s', r.v[GENERATION], r.id)
  local who = cycle == 1 and attempt == 1 and n .. r.whose or n .. ':' .. cycle .. ':' .. attempt .. r.whose
  return r.prefix .. pack(n, cycle, attempt, retries, lost), who
end

-- What a message is about, as message() says it.
local function about(text)
  local known, m = pcall(unpacked, text)
  if known and type(m) == 'table' and #m == 9 then return string.format('%d:%d:%d %d %s', m[5], m[6], m[7], m[4], m[2]) end
end

local CONTINUATION = -2 -- the node of a message that says: go on with this run's agenda
local DEFAULT_STREAM = '2:coroutine:default'
local added = {} -- stream -> how many entries this call has put in

-- Beside the message stands in plain words which step it is for: if it cannot be read, that one fails, instead of waiting for ever.
local function enqueue(stream, text, who)
  who = who or about(text)
  if who then call('XADD', P .. 'q:' .. stream, '*', 'm', text, 'w', who) else call('XADD', P .. 'q:' .. stream, '*', 'm', text) end
  added[stream] = (added[stream] or 0) + 1
end

-- When the first of what is put off is due, nil for never: attempts, and what runs may take at most. Most of the time there is neither, and one call
-- says so, for this is asked with every call that hands something out.
local function first_due()
  if call('EXISTS', P .. 'delayed', P .. 'deadlines') == 0 then return nil end
  local first
  for _, name in ipairs({ 'delayed', 'deadlines' }) do
    local due = tonumber(call('ZRANGE', P .. name, 0, 0, 'WITHSCORES')[2])
    if due and not (first and first <= due) then first = due end
  end
  return first
end

local function set_due(set, member, due)
  local first = first_due()
  call('ZADD', P .. set, string.format('%.0f', due), member)
  if not first or due < first then
    -- Whoever sleeps until the next one is due must look again.
    call('XADD', P .. 'tick', 'MAXLEN', 16, '*', 'm', '')
    call('EXPIRE', P .. 'tick', 86400)
  end
end

-- An attempt of a run goes to its stream when its time has come. The run knows of it, so that its end takes it away.
local function delay(run, stream, text, due)
  local member = stream .. '\n' .. text
  set_due('delayed', member, due)
  call('SADD', P .. 'later:' .. run, member)
end

-- A stream that was empty has a life span, and may be new; one with work in it has an owner.
local function settle_streams(emptied)
  for stream, number in pairs(added) do
    local key = P .. 'q:' .. stream
    local length = call('XLEN', key) -- less than was added where some of it was handed out and dropped in the same call
    if length == 0 then
      call('EXPIRE', key, 86400)
    elseif length <= number then
      if call('PERSIST', key) == 0 then redis.pcall('XGROUP', 'CREATE', key, 'g', '0') end -- what had a life span was there before, with its group
      if call('SADD', P .. 'streams', stream) == 1 then call('PUBLISH', T .. 'queues', stream) end
      call('EXPIRE', P .. 'streams', 604800)
    end
    call('HINCRBY', P .. 'counts', 'enqueued', number)
    call('EXPIRE', P .. 'counts', 604800)
  end
  for stream in pairs(emptied) do
    local key = P .. 'q:' .. stream
    if not added[stream] and call('XLEN', key) == 0 then call('EXPIRE', key, 86400) end
  end
end

-- ---- starting and stopping ----

function M.start(r, n, wait)
  r.v[OUT] = r.v[OUT] + 1
  if M.is_special(r, n) then
    local x = M.extra(r, n)
    r.starts[#r.starts + 1] = { n, x[VISIT], x[EXTRA_ATTEMPT], wait or 0, x[RETRIES] }
  else
    r.starts[#r.starts + 1] = { n, 1, 1, wait or 0, 0 }
  end
end

-- Attempts that are taken back: cycle, attempt, ranges of nodes.
local function stops_of(r, cycle, attempt)
  local last = r.stops[#r.stops]
  if not last or last[1] ~= cycle or last[2] ~= attempt then
    last = { cycle, attempt, {} }
    r.stops[#r.stops + 1] = last
  end
  return last[3]
end

local function add_stop(r, lo, hi, cycle, attempt)
  append_many(stops_of(r, cycle, attempt), lo, hi)
  r.v[OUT] = r.v[OUT] - (hi - lo + 1)
end

-- Take back what is out for a node, and for all members when it is a group; their outcomes are refused from now on.
function M.stop(r, n)
  local rec = M.rec(r, n)
  if M.status(r, n) == ACTIVE then
    if rec[KIND] == 1 then
      local sc = M.scope(r, n)
      if sc.d.j then
        touch(sc).j = nil
        r.v[OUT] = r.v[OUT] - 1
      end
      M.stop_members(r, sc)
      if r.ended then M.drop_result(r, n) end -- from an earlier visit: a group that is not finished has no result (21)
    elseif has(r, n, SUSPENDED) then
      M.unsuspend(r, n)
    elseif not has(r, n, PLACELESS) then
      add_stop(r, n, n, M.cycle(r, n), M.attempt(r, n))
    end
    flag(r, n, PLACELESS, false)
    note_cancelled(r, n, n, M.attempt(r, n))
  end
  M.mark(r, n, CANCELLED)
end

-- What is kept of each of some nodes, read at once.
local function fields_of_nodes(r, kind, lo, hi)
  local names = {}
  for n = lo, hi do names[#names + 1] = kind .. n end
  return call('HMGET', r.key, unpack(names))
end

-- The same for tasks side by side whose bytes are the same; returns what their byte is without what they had.
function M.stop_many(r, sc, lo, hi, b)
  if b >= PLACED then
    b = b - PLACED
    if not r.ended then M.give_places_back(r, sc, hi - lo + 1) end
  end
  local suspended = b % (2 * SUSPENDED) >= SUSPENDED
  if suspended then b = b - SUSPENDED end
  local placeless = b % (2 * PLACELESS) >= PLACELESS
  if placeless then b = b - PLACELESS end
  local special = b % (2 * EXTRA) >= EXTRA
  if not (special or suspended or next(r.extras)) then
    if not placeless then add_stop(r, lo, hi, 1, 1) end
    note_cancelled(r, lo, hi, 1)
    return b
  end
  local kept = special and fields_of_nodes(r, 'N', lo, hi) or {}
  local same, known
  for n = lo, hi do
    local x, text = r.extras[n], kept[n - lo + 1]
    if not x and text then
      if text ~= same then same, known = text, unpacked(text) end
      x = known
    end
    local cycle, attempt = x and x[VISIT] or 1, x and x[EXTRA_ATTEMPT] or 1
    if suspended then M.forget_suspension(r, n) elseif not placeless then add_stop(r, n, n, cycle, attempt) end
    note_cancelled(r, n, n, attempt)
  end
  return b
end

-- The same for all that have this byte in a text of statuses, which begins after the node `offset`.
function M.stop_all(r, sc, text, offset, b)
  local usual = b % (2 * EXTRA) < EXTRA and b % (2 * SUSPENDED) < SUSPENDED and not next(r.extras)
  local new, told, stops, number = nil, nil, nil, 0
  for first, after in string.gmatch(text, '()' .. literal(b) .. '+()') do
    local lo, hi = first + offset, after + offset - 1
    if not told then -- the first of them, or any that is not as usual
      new = M.stop_many(r, sc, lo, hi, b)
      if usual then told, stops = r.cancelled[2], b % (2 * PLACELESS) < PLACELESS and stops_of(r, 1, 1) end
    else
      told[#told + 1], told[#told + 2] = lo, hi
      if stops then stops[#stops + 1], stops[#stops + 2] = lo, hi end
      number = number + hi - lo + 1
    end
  end
  if stops then r.v[OUT] = r.v[OUT] - number end
  if b >= PLACED and number > 0 and not r.ended then M.give_places_back(r, sc, number) end
  return new
end

function M.unsuspend(r, n)
  flag(r, n, SUSPENDED, false)
  M.forget_suspension(r, n)
end

function M.forget_suspension(r, n)
  r.v[SUSPENSIONS] = r.v[SUSPENSIONS] - 1
  drop(r, 'Z' .. n)
end

function M.stop_members(r, sc)
  if in_pieces(r) then M.finish_regions(r, sc.n, true) end
  touch(sc).h = nil -- first, lest a freed place start the next member only to stop it again
  M.sweep(r, sc, M.members(r, sc), CANCELLED, WAITING, ACTIVE, function(n)
    if M.status(r, n) <= ACTIVE then M.stop(r, n) end
  end)
end

-- The starts of nodes lo to hi: found by node where these are fewer, else by looking at each start.
local function starts_within(r, by_node, lo, hi, visit)
  if hi - lo < #r.starts then
    for n = lo, hi do
      local a = by_node[n]
      while a do
        visit(a)
        a = a.before
      end
    end
  else
    for _, a in ipairs(r.starts) do
      if a[1] >= lo and a[1] <= hi then visit(a) end
    end
  end
end

-- Attempts that were made and taken back before anybody heard of them are neither started nor stopped.
function M.drop_short_lived(r)
  if #r.starts == 0 or #r.stops == 0 then return end
  local by_node, short, stops, starts = {}, {}, {}, {}
  for _, a in ipairs(r.starts) do
    a.before = by_node[a[1]] -- of the same node
    by_node[a[1]] = a
  end
  for _, s in ipairs(r.stops) do
    local left = {}
    for i = 1, #s[3], 2 do
      local lo, hi, gone = s[3][i], s[3][i + 1], {}
      starts_within(r, by_node, lo, hi, function(a)
        if a[2] == s[1] and a[3] == s[2] then
          short[a] = true
          append_many(gone, a[1], a[1])
        end
      end)
      for _, piece in ipairs(#gone > 0 and without({ lo, hi }, gone) or { { lo, hi } }) do append_many(left, piece[1], piece[2]) end
    end
    if #left > 0 then stops[#stops + 1] = { s[1], s[2], left } end
  end
  r.stops = stops
  for _, a in ipairs(r.starts) do
    if not short[a] then starts[#starts + 1] = a end
  end
  r.starts = starts
end

-- ---- visits and places ----

-- The visit is counted and allowed: make the node active and let it start when there is a place for it.
function M.begin_visit(r, n, iteration)
  M.mark(r, n, ACTIVE)
  local b = get(r, 's', n)
  if b < VISITED and not iteration and not r.extras[n] then -- its first, by an edge
    put(r, 's', n, b + VISITED)
  else
    local x = change(r, n)
    x[VISIT], x[EXTRA_ATTEMPT], x[RETRIES] = x[VISIT] + 1, 1, 0
    if iteration then
      call('HSET', r.key, 'I' .. n, iteration)
      x[ITERATED] = 1
    elseif x[ITERATED] == 1 then
      call('HDEL', r.key, 'I' .. n)
      x[ITERATED] = 0
    end
  end
  if M.rec(r, n)[KIND] == 1 then
    M.note(r, 'group_started', n)
    local problem = M.prepare_scope(r, M.scope(r, n))
    if problem then return M.fail(r, n, problem) end
  end
  M.take_place(r, n)
end

-- Start a node now, or when a place in its limited group is free (27).
function M.take_place(r, n)
  local sc = M.scope(r, M.rec(r, n)[SCOPE])
  local limit = sc.group and sc.group[OF_GROUP.LIMIT]
  if limit then
    local d = touch(sc)
    if (d.p or 0) >= limit then
      local h, visit = d.h or {}, M.cycle(r, n)
      if #h > 0 and h[#h] == visit and h[#h - 1] == n - 1 then
        h[#h - 1] = n
      else
        h[#h + 1], h[#h + 2], h[#h + 3] = n, n, visit
      end
      d.h = h
      flag(r, n, PLACELESS, true)
      return
    end
    d.p = (d.p or 0) + 1
    flag(r, n, PLACED, true)
  end
  M.set_out(r, n)
end

-- Give free places of a limited group to members that wait, first come first served.
function M.admit(r, sc)
  local limit = sc.group and sc.group[OF_GROUP.LIMIT]
  while limit and sc.d.h and #sc.d.h > 0 and (sc.d.p or 0) < limit do
    local d = touch(sc)
    local h = d.h
    local n, visit = h[1], h[3]
    if h[1] == h[2] then
      for _ = 1, 3 do table.remove(h, 1) end
      if #h == 0 then d.h = nil end
    else
      h[1] = n + 1
    end
    if has(r, n, PLACELESS) and M.cycle(r, n) == visit then -- else it was stopped meanwhile
      flag(r, n, PLACELESS, false)
      d.p = (d.p or 0) + 1
      flag(r, n, PLACED, true)
      M.set_out(r, n)
    end
  end
end

function M.set_out(r, n)
  if M.rec(r, n)[KIND] == 1 then M.enter_scope(r, M.scope(r, n)) else M.start(r, n) end
end

-- ---- what successors want to know ----

function M.want_all(r, n, value)
  local outs = M.rec(r, n)[OUTS]
  for i = 1, #outs, 5 do want_many(r, outs[i], outs[i + 1], value) end
end

-- A node has succeeded: success and always edges fire, failure edges are skipped (2).
function M.want_on_success(r, n)
  local outs = M.rec(r, n)[OUTS]
  for i = 1, #outs, 5 do want_many(r, outs[i], outs[i + 1], outs[i + 4] == 1 and SKIP or FIRE) end
end

-- The only node whose edge fired for the present visit, nil if there are several or none (30).
function M.predecessor(r, n)
  local rec = M.rec(r, n)
  local came_from = M.extra(r, n)[CAME_FROM]
  if not came_from then
    if rec.item or (not rec.single and rec.indegree == 0) then
      if rec[SCOPE] == RUN then return nil end
      return M.predecessor(r, rec[SCOPE])
    end
    came_from = fired_into(r, rec)
  end
  for i = 2, #came_from do
    if came_from[i] ~= came_from[1] then return nil end
  end
  return came_from[1]
end
