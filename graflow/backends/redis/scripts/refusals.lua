-- What a worker is handed and cannot run, because it lacks the function, or the key that its code is signed with.
--
-- Another worker may be able to: the attempt is put off, and looked at again after a second, two, four, up to ten. U<n> holds what is known of it:
-- cycle, attempt, since when (ms), how often it was refused, by which workers, for which reasons (told once each), and what was told last.

local LONGEST_PAUSE = 10000
local MOST_ASKED = 64 -- of more workers not each is asked within the long grace, so it is not worth the while of looking through them

-- What is known of the refusals of an attempt, nil if there was none.
function M.refusal(r, n, cycle, attempt)
  local kept = field(r, 'U' .. n)
  local known = kept and unpacked(kept)
  if known and known[1] == cycle and known[2] == attempt then return known end
end

local function holds(list, what)
  for _, each in ipairs(list) do
    if each == what then return true end
  end
  return false
end

local asked = {} -- stream -> the living workers that serve it; false for too many

local function find_workers(stream)
  local alive = call('ZRANGEBYSCORE', P .. 'leases', string.format('%.0f', M.now()), '+inf', 'LIMIT', 0, MOST_ASKED + 1)
  if #alive > MOST_ASKED then return false end
  local handler, queue = string.match(stream, '^%d+:([^:]*):(.*)$')
  handler = string.gsub(handler, '%%(%x%x)', function(code) return char(tonumber(code, 16)) end)
  local found, infos = {}, #alive > 0 and call('HMGET', P .. 'workers', unpack(alive)) or {}
  for i, worker in ipairs(alive) do
    local known, info = pcall(unpacked, infos[i] or '')
    if not known or type(info) ~= 'table' or not info.handlers then -- what it serves it does not say
      found[#found + 1] = worker
    elseif holds(info.handlers, handler) and (not info.queues or holds(info.queues, queue)) then
      found[#found + 1] = worker
    end
  end
  return found
end

-- Whether there is no living worker left that might run it.
local function is_refused_by_all(stream, refusers)
  if asked[stream] == nil then asked[stream] = find_workers(stream) end
  for _, worker in ipairs(asked[stream] or { false }) do
    if not holds(refusers, worker) then return false end
  end
  return true
end

-- The worker cannot run it. Whoever waits for the run is told so once for each reason. It fails, and is among the dead letters, when the grace is
-- over (ms): the short one when all living workers that serve its stream have refused it, else the long one. As long as it lasts it has not started,
-- whoever holds it: task_started was told every second of a task that nobody could run.
function M.refuse(r, n, cycle, attempt, worker, stream, text, err, because)
  local letter, long, short, reason, data = unpack(because)
  local known = M.refusal(r, n, cycle, attempt) or { cycle, attempt, M.now(), 0, {}, {}, '' }
  local since, tries, refusers, reasons = known[3], known[4], known[5], known[6]
  if not holds(refusers, worker) then refusers[#refusers + 1] = worker end
  local left = since + (is_refused_by_all(stream, refusers) and short or long) - M.now()
  if left <= 0 then
    drop(r, 'U' .. n)
    bury(letter, stream, text, err)
    M.settle(r, n, cycle, attempt, 'f', err)
    return
  end
  if not holds(reasons, reason) then
    reasons[#reasons + 1] = reason
    tell(r, 'task_refused', n, attempt, data)
  end
  r.v[LACKING] = 1
  write(r, 'U' .. n, pack({ cycle, attempt, since, tries + 1, refusers, reasons, data }))
  delay(r.id, stream, text, M.now() + math.min(1000 * 2 ^ math.min(tries, 10), LONGEST_PAUSE, left))
end
