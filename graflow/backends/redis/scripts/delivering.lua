-- Handing attempts out: what is taken from the streams, whether it still counts, and what its arguments are found in.

local INLINE = 64 -- members of a group whose results travel with the attempt that asks for them

-- The result of a node as it is stored: bytes; or for a group {node, keys, values or false}; false without one.
local function value_of(r, n)
  if n < r.v[PLANNED] and M.rec(r, n)[KIND] == 1 then
    local keys = M.result_keys(r, n)
    if not keys then return false end
    if size_of(keys) > INLINE and not field(r, 'F' .. n) then return { n, pack(keys), false } end
    return { n, pack(keys), M.group_values(r, n) }
  end
  return call('HGET', P .. 'res:' .. r.id, n)
end

-- The item of a mapped group that a member is for.
local function item_of(r, n, rec)
  if not rec.item then return false end
  local place = M.branch(rec, n)
  local source = M.rec(r, rec[SCOPE])[GROUP][OF_GROUP.MAPPING][1]
  if M.rec(r, source)[KIND] == 0 then
    local items = field(r, 'i' .. source)
    return items and call('HGET', items, place)
  end
  local keys, kept = M.result_keys(r, source), field(r, 'F' .. source)
  if kept then return unpacked(kept)[place + 1] or false end
  local at = 0
  for i = 1, #(keys or {}), 2 do
    local size = keys[i + 1] - keys[i] + 1
    if place < at + size then return M.result_bytes(r, keys[i] + place - at) end
    at = at + size
  end
  return false
end

-- The failure that a failure or always edge brought here, the last one if there are several.
local function error_before(r, n)
  while true do
    local rec, came_from, last = M.rec(r, n), M.extra(r, n)[CAME_FROM], nil
    local function consider(source)
      local err = M.error_of(r, source)
      if err and (not last or err[1] > last[1]) then last = { err[1], source, pack(err) } end
    end
    for _, source in ipairs(fired_into(r, rec)) do
      if M.status(r, source) == HANDLED then consider(source) end
    end
    for _, source in ipairs(came_from or {}) do
      local forked = false
      each_out(M.rec(r, source), function(_, target, on) forked = forked or (on > 0 and target == n) end)
      if forked then consider(source) end
    end
    if last then return { last[2], last[3] } end
    if came_from or rec.indegree > 0 or rec[SCOPE] == RUN then return false end
    n = rec[SCOPE]
  end
end

-- Every goto of the run, and who made the nodes in them that were made at run time: node, maker, scope.
local function jump_info(r, n)
  local jumps, makers, seen = unpacked(field(r, 'G')), {}, {}
  local function add_maker(m)
    while m >= r.v[PLANNED] and not seen[m] do
      seen[m] = true
      local rec = M.rec(r, m)
      makers[#makers + 1], makers[#makers + 2], makers[#makers + 3] = m, rec.maker, rec[SCOPE]
      m = rec.maker
    end
  end
  add_maker(n)
  for _, m in ipairs(jumps) do add_maker(m) end
  return { jumps, makers }
end

-- The value of a channel key as it is stored, see backends/redis/channel.py. A capital mark means that its time may be up.
local function channel_value(r, name)
  local value = call('HGET', P .. 'ch:' .. r.id, name)
  if not value or byte(value) > 90 then return value end
  local due = call('ZSCORE', P .. 'cht:' .. r.id, name)
  return (not due or tonumber(due) > M.now()) and value
end

-- {result, channel value, result, channel value...}, {predecessor, its result}, error, item, gotos
local function inputs_of(r, n, rec)
  local needs, found, starving, jumps = rec[NEEDS], {}, false, false
  for i = 2, #needs, 4 do
    local source, reached, name, required = needs[i], needs[i + 1], needs[i + 2], needs[i + 3]
    local result, value = false, false
    if source >= 0 and (reached == 1 or r.v[JUMPS] > 0) then
      result = value_of(r, source)
      if reached == 0 and result then jumps = true end
    end
    if not result or reached == 0 then value = channel_value(r, name) end
    if required == 1 and not value and (not result or reached == 0) then starving = true end
    found[#found + 1], found[#found + 2] = result, value
  end
  local before = false
  if starving then
    local p = M.predecessor(r, n)
    if p then before = { p, value_of(r, p) } end
  end
  local wants = needs[1]
  return {
    found, before, wants % 2 == 1 and error_before(r, n), wants >= 2 and item_of(r, n, rec), jumps and jump_info(r, n),
    r.v[RANGES] > 0 and field(r, 'R') or false,
  }
end

local dropped = {} -- stream -> ids of entries that no longer count

local function drop_entry(stream, id)
  call('XACK', P .. 'q:' .. stream, 'g', id)
  dropped[stream] = dropped[stream] or {}
  add(dropped[stream], id)
end

-- ---- what has cost workers their lives ----
--
-- Of all that a worker held when it died, one may have killed it, and nobody knows which. They are put back in line together and taken together again:
-- fifty that were innocent went to the dead letters along with the one that was not. So which of them it was is found out in time. At first all of
-- them start again at once and together, as most deaths are nobody's fault. One that would be given up for one more death is only handed to who holds
-- no other that has cost anybody; until then it is put off, the longer the more of them there are, lest they keep the server busy.
--
-- The hash risks:<consumer> holds what those in its hands have cost, by their tokens. It is read when another of them comes, and nobody clears up
-- after those that were settled meanwhile but whoever reads it.

local LAST_CHANCE = 3 -- MOST_LOST in leases.py
local APART, FARTHEST = 100, 10000 -- ms
local apart = 0 -- how many were put off
local risk -- what the costliest in the consumer's hands has cost

local function is_held(stream, id, consumer)
  local found = redis.pcall('XPENDING', P .. 'q:' .. stream, 'g', id, id, 1, consumer)
  return not found.err and #found > 0
end

local function find_risk(key, consumer)
  risk = 0
  local flat = call('HGETALL', key)
  for i = 1, #flat, 2 do
    local stream, id = string.match(flat[i], '^(.*) (%S+)$')
    if is_held(stream, id, consumer) then risk = math.max(risk, tonumber(flat[i + 1])) else call('HDEL', key, flat[i]) end
  end
end

-- Whether one that has cost workers can be in these hands, beside what is there.
local function admit(stream, id, cost, consumer)
  local key, token = P .. 'risks:' .. consumer, stream .. ' ' .. id
  if call('HEXISTS', key, token) == 1 then return true end -- it has been there before: the reply was lost
  if not risk then find_risk(key, consumer) end
  if risk > 0 and math.max(risk, cost) >= LAST_CHANCE then return false end
  risk = math.max(risk, cost)
  call('HSET', key, token, cost)
  call('EXPIRE', key, 86400)
  return true
end

local function put_apart(r, stream, id, text)
  apart = apart + 1
  drop_entry(stream, id)
  delay(r.id, stream, text, M.now() + math.min(APART * (call('SCARD', P .. 'later:' .. r.id) + 1), FARTHEST))
end

-- {stream, id, message, iteration, how it was made, inputs, whether others have refused it: then who can run it tells that it has started}
local function deliver(stream, id, text, m, again, out)
  local run, generation, n, cycle, attempt = m[2], m[4], m[5], m[6], m[7]
  local r = M.load(run)
  if not r or r.v[GENERATION] ~= generation then return drop_entry(stream, id) end
  if n == CONTINUATION then
    if M.is_over(r) then return drop_entry(stream, id) end
    return add(out.continuations, { stream, id, text })
  end
  if not M.is_running(r, n, cycle, attempt) then
    if again then r.v[LIVE] = r.v[LIVE] - 1 end -- it was counted when it was handed out, and nobody will settle it
    return drop_entry(stream, id)
  end
  if m[9] > 0 then
    if again and not is_held(stream, id, out.consumer) then return end -- it was put off before, and the reply lost
    if not admit(stream, id, m[9], out.consumer) then
      if again then r.v[LIVE] = r.v[LIVE] - 1 end
      return put_apart(r, stream, id, text)
    end
  end
  local rec = M.rec(r, n)
  local made, iterated = false, M.is_special(r, n) and M.extra(r, n)[ITERATED] == 1
  if rec.single then made = field(r, 'D' .. n) elseif rec.item then made = pack({ rec[SCOPE], M.branch(rec, n) }) end
  local refused = false
  if r.v[LACKING] then
    refused = M.refusal(r, n, cycle, attempt)
    if field(r, 'lacks') then drop(r, 'lacks') end
  end
  if not again then
    r.v[LIVE] = r.v[LIVE] + 1
    if rec[KIND] == 0 and not refused then tell(r, 'task_started', n, attempt) end
  end
  add(out.deliveries, {
    stream, id, text, iterated and call('HGET', r.key, 'I' .. n), made, rec[NEEDS] and inputs_of(r, n, rec) or false,
    refused and 1 or 0,
  })
end

local function take_entry(stream, entry, again, out)
  local fields = entry[2]
  if not fields then return drop_entry(stream, entry[1]) end -- read again after it was deleted
  local known, m = pcall(unpacked, fields[2])
  if fields[1] ~= 'm' or not known or type(m) ~= 'table' or m[1] ~= 1 or #m ~= 9 then
    return add(out.odd, { stream, entry[1], fields[1], fields[2] })
  end
  deliver(stream, entry[1], fields[2], m, again, out)
end

-- The next entries of a stream. Most streams are empty most of the time, and their length is a quarter of the price of a read.
local function next_entries(stream, consumer, most)
  local key = P .. 'q:' .. stream
  if call('XLEN', key) == 0 then return {} end
  local reply = redis.pcall('XREADGROUP', 'GROUP', 'g', consumer, 'COUNT', most, 'STREAMS', key, '>')
  return reply and not reply.err and reply[1][2] or {}
end

local function read(stream, consumer, most, out)
  local entries = next_entries(stream, consumer, most)
  for _, entry in ipairs(entries) do take_entry(stream, entry, false, out) end
  return #entries
end

-- Work whose time has come goes to its stream; so many at once, and the rest next time. Returns when the next one is due, -1 for none.
local PROMOTED = 128
local function due_now(set)
  return call('ZRANGEBYSCORE', P .. set, '-inf', string.format('%.0f', M.now()), 'LIMIT', 0, PROMOTED)
end

local function put_in_line(member)
  local stream, text = string.match(member, '^([^\n]*)\n(.*)$')
  if string.sub(text, 1, 1) == '\1' then -- put in by hand, not by a run
    call('XADD', P .. 'q:' .. stream, '*', 't', string.sub(text, 14))
    added[stream] = (added[stream] or 0) + 1
  else
    local known, m = pcall(unpacked, text)
    if known and type(m) == 'table' and type(m[2]) == 'string' then call('SREM', P .. 'later:' .. m[2], member) end
    enqueue(stream, text)
  end
end

local function end_overdue(id)
  local r = M.load(id)
  if not r or M.is_over(r) then return end
  M.finish(r, 'failed', 'timeout', nil, field(r, 'overdue') or '')
  M.settle_down(r)
  r.worked = true
end

local function promote()
  local first = first_due()
  if not first then return -1 end
  if first <= M.now() then
    local due, overdue = due_now('delayed'), due_now('deadlines')
    for _, id in ipairs(overdue) do end_overdue(id) end
    for _, member in ipairs(due) do put_in_line(member) end
    many('ZREM', P .. 'delayed', due)
    many('ZREM', P .. 'deadlines', overdue)
    first = first_due()
  end
  return first and math.max(0, first - M.now()) or -1
end

-- wanted: {free slots, streams, streams of the lower priorities or false, how many come before one of those} for each handler
local function serve(wanted, take)
  local number, emptied = 0, {}
  for _, handler in ipairs(wanted) do
    local left = handler[1]
    local function from(streams, most)
      for _, stream in ipairs(streams) do
        if most <= 0 then break end
        if not emptied[stream] then
          local got = take(stream, most)
          emptied[stream] = got < most
          left, most, number = left - got, most - got, number + got
        end
      end
    end
    if handler[3] then
      from(handler[2], handler[4])
      from(handler[3], math.min(1, left))
    end
    from(handler[2], left)
  end
  if number > 0 then call('HINCRBY', P .. 'counts', 'fetched', number) end
end

-- is_likely: whether a stream need be looked at, all of them without it
local function fetch(consumer, wanted, out, is_likely)
  serve(wanted, function(stream, most)
    if is_likely and not is_likely(stream) then return 0 end
    return read(stream, consumer, most, out)
  end)
end

local function delete_dropped(emptied)
  local number = -apart
  for stream, ids in pairs(dropped) do
    many('XDEL', P .. 'q:' .. stream, ids)
    emptied[stream] = true
    number = number + #ids
  end
  if number > 0 then call('HINCRBY', P .. 'counts', 'dropped', number) end
end
