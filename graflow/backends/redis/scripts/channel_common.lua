-- A run's channel as the scripts see it.
--
-- KEYS[1] is the partition's prefix, "{namespace:p}:". ARGV[1] is what to add to the server's time, in milliseconds (0 but in tests), ARGV[2] the run.
--
-- hash ch:<run>: key -> a mark and what it says. v: a value, n: an int or a float, both as the codec's bytes. l: how many items the key's list holds.
-- V, N, L: the same, of a key whose time to live is in the sorted set cht:<run>, by the millisecond at which it is up.
-- list chl:<length of run>:<run>:<key>: items as the codec's bytes, in each element one or several.
-- set chx:<run>: the names of all these but the hash, for whoever removes the run.

local P, T, call = KEYS[1], KEYS[2] or KEYS[1], redis.call
local sub, byte = string.sub, string.byte
local run = ARGV[2]
local ch, cht, extra = P .. 'ch:' .. run, P .. 'cht:' .. run, P .. 'chx:' .. run
local SLICE, REMEMBERED = 500, 60000

local state = call('HGET', P .. 'run:' .. run, 'st')
if not state then return false end

local time
local function now()
  if not time then
    local t = call('TIME')
    time = t[1] * 1000 + math.floor(t[2] / 1000) + tonumber(ARGV[1])
  end
  return time
end

-- A run's id may hold colons, so its length says where it ends.
local function list_of(key) return P .. 'chl:' .. #run .. ':' .. run .. ':' .. key end

local function is_list(field) return field and (byte(field) == 0x6c or byte(field) == 0x4c) end

-- Keys that have no time to live any more.
local function live_on(keys)
  if call('ZREM', cht, unpack(keys)) > 0 and call('EXISTS', cht) == 0 then call('SREM', extra, cht) end
end

local function remove(keys)
  local lists = {}
  for i, key in ipairs(keys) do lists[i] = list_of(key) end
  local gone = call('HDEL', ch, unpack(keys))
  live_on(keys)
  if call('UNLINK', unpack(lists)) > 0 then call('SREM', extra, unpack(lists)) end
  return gone
end

-- Free what has outlived its time: some of it, and the key in question in any case. Returns whether there is more.
local function lapse(key)
  local first = call('ZRANGE', cht, 0, 0, 'WITHSCORES')
  if not first[1] or tonumber(first[2]) > now() then return false end
  local late = call('ZRANGEBYSCORE', cht, '-inf', string.format('%.0f', now()), 'LIMIT', 0, SLICE)
  local more = #late == SLICE
  if more and key then
    local ends = call('ZSCORE', cht, key)
    if ends and tonumber(ends) <= now() then late[#late + 1] = key end
  end
  remove(late)
  return more
end

-- What is written when the run is over goes when the run does.
local function keep_no_longer(...)
  if state == 'r' then return end
  local left = call('PTTL', P .. 'run:' .. run)
  if left <= 0 then return end
  for _, key in ipairs({ ch, cht, extra, ... }) do call('PEXPIRE', key, left) end
end

local function announce(key)
  call('PUBLISH', T .. 'changed:' .. run, key)
end

-- Operations that must not happen twice leave their answer, for one whose answer was lost and which is sent again.
local function answered(op) return call('GET', P .. 'once:' .. op) end

local function answer(op, text)
  call('SET', P .. 'once:' .. op, text, 'PX', REMEMBERED)
  return text
end
