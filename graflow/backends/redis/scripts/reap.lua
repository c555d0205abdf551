-- Attempts of workers whose lease is gone are put back in line, under a new id and as a new attempt. ARGV: shift, budget, how many workers a
-- task may cost, how many entries at most.
--
-- A consumer without a lease is dead, whether its lease lapsed or it never had one: a worker that was thought dead and reads once more makes
-- itself a new consumer, and what it took would be nobody's.
--
-- It may do so although it is dead: a read that it began before blocks here for a while (client.py, BLOCK), and what comes meanwhile is handed to
-- somebody who is not there. So among the leases stands from then on one that nobody holds, and lapses when no such read can be left: whoever
-- watches the leases looks once more then. Without it, it took the slow round over all streams to find such an entry: minutes.

local LINGERS = 6000
local MOST_LOST, most = tonumber(ARGV[3]), tonumber(ARGV[4])
local emptied, reaped, lost = {}, 0, {}

local function fields_of(flat)
  local t = {}
  for i = 1, #flat, 2 do t[flat[i]] = flat[i + 1] end
  return t
end

local function is_alive(consumer)
  local lease = call('ZSCORE', P .. 'leases', consumer)
  return lease and tonumber(lease) >= M.now()
end

local function recover(stream, id, text, who)
  local known, m = pcall(unpacked, text)
  if not known or type(m) ~= 'table' or m[1] ~= 1 or #m ~= 9 then return enqueue(stream, text, who) end -- whoever takes it next will say so
  local run, generation, n, cycle, attempt, retries, cost = m[2], m[4], m[5], m[6], m[7], m[8], m[9]
  local r = M.load(run)
  if not r or r.v[GENERATION] ~= generation or M.is_over(r) then
    if r and r.v[GENERATION] == generation then r.v[LIVE] = r.v[LIVE] - 1 end
    return
  end
  r.stream = stream
  if n == CONTINUATION then return enqueue(stream, text) end
  r.v[LIVE] = r.v[LIVE] - 1
  r.worked = true
  if not M.is_running(r, n, cycle, attempt) then return end
  if cost >= MOST_LOST then
    bury('lost_workers', stream, text, run)
    r.v[OUT] = r.v[OUT] - 1
    if in_pieces(r) then M.finish_regions(r) end
    M.fail(r, n, { 0, 'm', 'lost_workers', cost + 1, attempt })
    return M.settle_down(r)
  end
  M.note(r, 'task_retrying', n, pack({ 0, 'lost' }))
  local x = change(r, n)
  x[EXTRA_ATTEMPT] = x[EXTRA_ATTEMPT] + 1
  enqueue(stream, message(r, n, cycle, x[EXTRA_ATTEMPT], retries, cost + 1))
end

for _, stream in ipairs(call('SMEMBERS', P .. 'streams')) do
  local key = P .. 'q:' .. stream
  local consumers = redis.pcall('XINFO', 'CONSUMERS', key, 'g')
  for _, flat in ipairs(consumers.err and {} or consumers) do
    local consumer = fields_of(flat)
    if not is_alive(consumer.name) then
      lost[consumer.name] = true
      call('UNLINK', P .. 'risks:' .. consumer.name)
      local pending = consumer.pending > 0 and reaped < most and call('XPENDING', key, 'g', '-', '+', most - reaped, consumer.name) or {}
      for _, p in ipairs(pending) do
        local entry = call('XRANGE', key, p[1], p[1])[1]
        call('XACK', key, 'g', p[1])
        call('XDEL', key, p[1])
        emptied[stream] = true
        reaped = reaped + 1
        if entry then
          if entry[2][1] == 'm' then
            recover(stream, p[1], entry[2][2], entry[2][4])
          else
            call('XADD', key, '*', entry[2][1], entry[2][2])
            added[stream] = (added[stream] or 0) + 1
          end
        end
      end
      if #pending == consumer.pending then call('XGROUP', 'DELCONSUMER', key, 'g', consumer.name) end
    end
  end
end
local LOOK_AGAIN = '!'
local gone, again = next(lost) ~= nil, false
for _, consumer in ipairs(call('ZRANGEBYSCORE', P .. 'leases', '-inf', string.format('(%.0f', M.now()))) do
  if consumer == LOOK_AGAIN then again = true else gone = true end -- of one that only waited the streams know nothing
  call('ZREM', P .. 'leases', consumer)
  call('HDEL', P .. 'workers', consumer)
end
if gone and call('ZCARD', P .. 'leases') > 0 then call('ZADD', P .. 'leases', 'GT', string.format('%.0f', M.now() + LINGERS), LOOK_AGAIN) end
-- The dead may have been the only ones who knew when the next work is due, and a read of theirs may be told of it instead of one of the living.
if (gone or again) and call('EXISTS', P .. 'delayed', P .. 'deadlines') > 0 then call('XADD', P .. 'tick', 'NOMKSTREAM', 'MAXLEN', 16, '*', 'm', '') end
carry_out()
write_back()
settle_streams(emptied)
return { reaped, #touched }
