-- What a call has changed, written back: once for each run, in few commands.

local function pages_of(r, kind)
  for k in pairs(r.dirty[kind]) do write(r, kind .. k, char(unpack(r.pages[kind][k]))) end
end

-- Visits that are out of the ordinary get a field of their own; a first visit by an edge is one bit.
local function write_extras(r)
  for n in pairs(r.changed) do
    local x = r.extras[n]
    local plain = x[VISIT] <= 1 and x[EXTRA_ATTEMPT] == x[VISIT] and x[RETRIES] == 0 and not x[CAME_FROM] and x[ITERATED] == 0
    if plain then
      flag(r, n, VISITED, x[VISIT] == 1)
      if has(r, n, EXTRA) then
        flag(r, n, EXTRA, false)
        drop(r, 'N' .. n)
      end
    else
      flag(r, n, EXTRA, true)
      write(r, 'N' .. n, pack(x))
    end
  end
  r.changed = {}
end

local function write_parts(r)
  for n, sc in pairs(r.scopes) do
    if sc.dirty then write(r, 'S' .. n, pack(sc.d)) end
  end
  for k, loop in pairs(r.loops) do
    if loop.dirty then write(r, 'L' .. k, pack(loop.d)) end
  end
  for n, j in pairs(r.joins) do
    if j.dirty then write(r, 'J' .. n, pack({ j[1], j[2], j[3] })) end
  end
  for name in pairs(r.count_changes) do write(r, name, r.counts[name] or false) end
  if r.went_changed then
    local all = {}
    for _, gotos in pairs(went(r)) do
      for _, goto_ in ipairs(gotos) do all[#all + 1] = goto_ end
    end
    if #all > 0 then write(r, 'W', pack(all)) else drop(r, 'W') end
  end
  if r.ranges_changed then
    local list = {}
    for i, range in ipairs(r.ranges) do list[i] = { range[1], range[2], range[3], range[4] } end
    write(r, 'R', pack(list))
  end
end

local function write_fields(r)
  write_extras(r)
  pages_of(r, 's')
  pages_of(r, 'e')
  write_parts(r)
  write(r, 'v', pack(r.v))
  local set, gone = {}, {}
  for name, value in pairs(r.fields) do
    if value then set[#set + 1], set[#set + 2] = name, value elseif not r.new then gone[#gone + 1] = name end
  end
  if #gone > 0 then many('HDEL', r.key, gone) end
  many('HSET', r.key, set)
end

local function write_results(r)
  local set, gone = {}, {}
  for n, value in pairs(r.results) do
    if value then set[#set + 1], set[#set + 2] = n, value else gone[#gone + 1] = n end
  end
  local key = P .. 'res:' .. r.id
  if #set > 0 then many('HSET', key, set) end
  if #gone > 0 then many('HDEL', key, gone) end
end

local function write_events(r)
  tell_cancelled(r)
  local number = #r.events
  if number == 0 then return end
  local header = char(0xdd, floor(number / 2 ^ 22) % 256, floor(number / 2 ^ 14) % 256, floor(number / 2 ^ 6) % 256, number * 4 % 256)
  call('XADD', P .. 'ev:' .. r.id, '*', 'e', header .. table.concat(r.events))
  call('PUBLISH', T .. 'told:' .. r.id, '')
end

local function send_starts(r)
  for _, s in ipairs(r.starts) do
    local stream = M.rec(r, s[1])[STREAM]
    if stream == '' then stream = r.stream or DEFAULT_STREAM end -- a group whose policy is asked
    local text, who = message(r, s[1], s[2], s[3], s[5], 0)
    if s[4] > 0 then delay(r.id, stream, text, M.now() + s[4]) else enqueue(stream, text, who) end
  end
end

-- Workers that hold attempts of this run hear which of them no longer count: some, or all. The one that asks is told with its answer.
local told_to_stop = {}

local function send_stops(r)
  if r.v[LIVE] <= 0 or not (r.ended or #r.stops > 0) then return end
  local text = r.ended and pack({ r.id, r.v[GENERATION] }) or pack({ r.id, r.v[GENERATION], r.stops })
  call('PUBLISH', T .. 'stops', text)
  add(told_to_stop, text)
end

local function end_run(r)
  local e = r.ended
  r.st = e[1]
  write(r, 'st', e[1])
  write(r, 'end', pack(e))
  write(r, 'ended', M.now())
  if r.swept then write(r, 'swept', 1) end
  drop(r, 'agenda')
  tell(r, 'run_finished', RUN, 0, pack({ e[1], e[2], e[4] }))
  call('PUBLISH', T .. 'changed:' .. r.id, '')
  if call('HINCRBY', r.plan, 'runs', -1) <= 0 then call('EXPIRE', r.plan, math.max(r.v[KEEP], 3600)) end
end

-- All that a run has is kept for so long after its end. Values outside of its hashes are listed in one set.
local function expire(r)
  local keep = r.v[KEEP]
  for _, list in ipairs({ P .. 'chx:' .. r.id, P .. 'own:' .. r.id }) do
    local keys = call('SMEMBERS', list)
    for _, key in ipairs(keys) do call('EXPIRE', key, keep) end
    if #keys > 0 then call('EXPIRE', list, keep) end
  end
  for _, name in ipairs({ 'run:', 'res:', 'ev:', 'ch:', 'failed:' }) do call('EXPIRE', P .. name .. r.id, keep) end
end

-- All there is of a small run that is over, so that whoever is told need not come and look; false where it is more than goes into a message.
local SMALL_RUN, SMALL_WORD = 8, 4096
local function small_whole(r)
  if not M.is_over(r) or r.v[LIVE] > 0 or r.v[NEXT] > SMALL_RUN then return false end
  local whole, size = { call('HGETALL', r.key), call('HGETALL', P .. 'res:' .. r.id) }, 0
  for _, flat in ipairs(whole) do
    for _, word in ipairs(flat) do
      size = size + #word
      if size > SMALL_WORD or byte(word) == ELSEWHERE then return false end -- what lies elsewhere is large
    end
  end
  return whole
end

local function notify(r)
  local suspended = not M.is_over(r) and r.v[SUSPENSIONS] > 0 and r.v[OUT] == 0
  if not (M.is_over(r) or suspended) then return end
  local watching = field(r, 'watch')
  if not watching then return end
  local text = pack({ r.id, r.v[GENERATION], suspended and 'suspended' or r.st, r.v[LIVE], small_whole(r) })
  for _, inbox in ipairs(unpacked(watching)) do call('PUBLISH', inbox, text) end
end

-- A run that is over needs no time limit, and its attempts that wait for their time need not come: where no worker lives, they would stay for ever.
local function forget_due(r)
  if call('EXISTS', P .. 'delayed', P .. 'deadlines') == 0 then return end
  call('ZREM', P .. 'deadlines', r.id)
  local later = call('SMEMBERS', P .. 'later:' .. r.id)
  if #later == 0 then return end
  many('ZREM', P .. 'delayed', later)
  call('UNLINK', P .. 'later:' .. r.id)
end

-- First what others may read before the call is over: attempts on their streams, and results.
local function carry_out()
  for _, r in ipairs(touched) do
    local ends = r.ended and r.st == 'r'
    if ends then end_run(r) end
    M.put_off_agenda(r)
    send_starts(r)
    if ends then forget_due(r) end
    send_stops(r)
    r.starts, r.stops = {}, {}
    write_results(r)
  end
end

local function write_back()
  for _, r in ipairs(touched) do
    if r.new or r.v[LIVE] ~= r.was_live or r.worked then
      if r.v[LIVE] < 0 then r.v[LIVE] = 0 end
      write_fields(r)
      write_events(r)
      if r.ended then expire(r) end
      if r.worked or M.is_over(r) then notify(r) end
    end
  end
end
