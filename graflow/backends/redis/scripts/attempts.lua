-- Which attempts to start and which to stop: core/attempts.py.

-- Events by number, as backends/redis/events.py reads them.
local TOLD = {
  run_started = 0, task_started = 1, task_succeeded = 2, task_failed = 3, task_retrying = 4, task_skipped = 5, task_cancelled = 6,
  task_suspended = 7, group_started = 8, group_succeeded = 9, group_failed = 10, iteration = 11, progress = 12, message = 13, no_worker = 14,
  run_finished = 15,
}

local function tell(r, what, n, attempt, data)
  r.events[#r.events + 1] = pack(TOLD[what], n, attempt, data or false)
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
      r.events[#r.events + 1] = pack(t[6], t[3], t[5], t[7])
      r.worked = true
    end
  end
end

-- ---- the messages on a queue ----

-- version, run, plan, generation | node, cycle, attempt, retries, lost workers
local function message(r, n, cycle, attempt, retries, lost)
  if not r.prefix then r.prefix = char(0x99) .. pack(1, r.id, r.digest, r.v[GENERATION]) end
  r.tail = r.tail or string.format(' %d %s', r.v[GENERATION], r.id)
  local who = cycle == 1 and attempt == 1 and n .. r.tail or n .. ':' .. cycle .. ':' .. attempt .. r.tail
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

local function delay(stream, text, due)
  local first = call('ZRANGE', P .. 'delayed', 0, 0, 'WITHSCORES')
  call('ZADD', P .. 'delayed', string.format('%.0f', due), stream .. '\n' .. text)
  if not first[2] or due < tonumber(first[2]) then
    -- Whoever sleeps until the next one is due must look again.
    call('XADD', P .. 'tick', 'MAXLEN', 16, '*', 'm', '')
    call('EXPIRE', P .. 'tick', 86400)
  end
end

-- A stream that was empty has a life span, and may be new; one with work in it has an owner.
local function settle_streams(emptied)
  for stream, number in pairs(added) do
    local key = P .. 'q:' .. stream
    local length = call('XLEN', key) -- less than was added where some of it was handed out and dropped in the same call
    if length == 0 then
      call('EXPIRE', key, 86400)
    elseif length <= number then
      call('PERSIST', key)
      redis.pcall('XGROUP', 'CREATE', key, 'g', '0')
      if call('SADD', P .. 'streams', stream) == 1 then call('PUBLISH', P .. 'queues', stream) end
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
      r.v[OUT] = r.v[OUT] - 1
      local x = M.extra(r, n)
      r.stops[#r.stops + 1] = { n, x[VISIT], x[EXTRA_ATTEMPT] }
    end
    flag(r, n, PLACELESS, false)
    M.note(r, 'task_cancelled', n)
  end
  M.mark(r, n, CANCELLED)
end

function M.unsuspend(r, n)
  flag(r, n, SUSPENDED, false)
  r.v[SUSPENSIONS] = r.v[SUSPENSIONS] - 1
  drop(r, 'Z' .. n)
end

function M.stop_members(r, sc)
  touch(sc).h = nil -- first, lest a freed place start the next member only to stop it again
  M.sweep(r, sc, M.members(r, sc), CANCELLED, WAITING, function(n)
    if M.status(r, n) <= ACTIVE then M.stop(r, n) end
  end)
end

-- Attempts that were made and taken back before anybody heard of them are neither started nor stopped.
function M.drop_short_lived(r)
  if #r.starts == 0 or #r.stops == 0 then return end
  local function name(a) return a[1] .. ':' .. a[2] .. ':' .. a[3] end
  local stopped, short, kept = {}, {}, {}
  for _, s in ipairs(r.stops) do stopped[name(s)] = true end
  for _, s in ipairs(r.starts) do
    if stopped[name(s)] then short[name(s)] = true else kept[#kept + 1] = s end
  end
  r.starts = kept
  kept = {}
  for _, s in ipairs(r.stops) do
    if not short[name(s)] then kept[#kept + 1] = s end
  end
  r.stops = kept
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
  if #M.rec(r, n)[OUTS] == 0 then return end
  each_out(M.rec(r, n), function(e) set_want(r, e, value) end)
end

-- A node has succeeded: success and always edges fire, failure edges are skipped (2).
function M.want_on_success(r, n)
  if #M.rec(r, n)[OUTS] == 0 then return end
  each_out(M.rec(r, n), function(e, _, on) set_want(r, e, on == 1 and SKIP or FIRE) end)
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
