-- A barrier as the scripts see it. KEYS[1] is the partition's prefix. ARGV[1] is the run that it belongs to, "" for none, ARGV[2] the group.
--
-- hash bar:<group>, or rbar:<length of run>:<run>:<group>: parties (how many open it), arrived (how many there are), birth (tells it from others of
-- that name), p:<party> for each that is there. One of a run is listed in chx:<run>, and so goes with the run; any other 24 h after it was last
-- touched.
-- Messages on door:<group>, or changed:<run>, where the run's end is told too: "\1" and "1<birth>" it is open, "0<birth>" it has been removed.

local P, T, call = KEYS[1], KEYS[2] or KEYS[1], redis.call
local run, group = ARGV[1], ARGV[2]
local key = run == '' and P .. 'bar:' .. group or P .. 'rbar:' .. #run .. ':' .. run .. ':' .. group

-- Nothing for a run that there is none of. Text, so that a script can hand it on as it is.
local state = run == '' and 'r' or call('HGET', P .. 'run:' .. run, 'st')

local function touch()
  if run == '' then call('EXPIRE', key, 86400) else call('SADD', P .. 'chx:' .. run, key) end
end

local function tell(word, birth)
  call('PUBLISH', T .. (run == '' and 'door:' .. group or 'changed:' .. run), '\1' .. word .. birth)
end

-- Operations that must not happen twice leave their answer, for one whose answer was lost and which is sent again.
local function answered(op) return call('GET', P .. 'once:' .. op) end

local function answer(op, text)
  call('SET', P .. 'once:' .. op, text, 'PX', 60000)
  return text
end
