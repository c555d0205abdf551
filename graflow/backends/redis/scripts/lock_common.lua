-- A lock of a run: who holds it, and the line of those who wait.
--
-- KEYS[1] is the partition's prefix. ARGV[1] is what to add to the server's time, in milliseconds, ARGV[2] the run, ARGV[3] the lock's name, ARGV[4] the
-- token of whoever asks: "<process>/<anything>".
--
-- hash lock:<length of run>:<run>:<name>: holder (a token), ends (the millisecond at which the holder loses it), offered ("1": it is the next one's turn,
-- and it has not said yet that it is there). Nobody holds a lock that is not there.
-- sorted set line:<length of run>:<run>:<name>: tokens, by the microsecond at which each began to wait.
-- Both go by themselves soon after the holder's time is up: whoever waits looks by then, which keeps them.
-- Messages on changed:<run>: "\0<name>\0<token>\0<milliseconds>": the lock is that token's for so long; without a token: all who wait are to look.

local P, T, call = KEYS[1], KEYS[2] or KEYS[1], redis.call
local run, name, token = ARGV[2], ARGV[3], ARGV[4]
local rest = #run .. ':' .. run .. ':' .. name
local lock, line, left = P .. 'lock:' .. rest, P .. 'line:' .. rest, P .. 'once:' .. token
local OFFERED, SPARE, REMEMBERED, SLICE = 3000, 60000, 60000, 4000

local t = call('TIME')
local shift = tonumber(ARGV[1])
local now = t[1] * 1000 + math.floor(t[2] / 1000) + shift
local found = call('HMGET', lock, 'holder', 'ends', 'offered')
local holder, ends, offered = found[1], tonumber(found[2] or 0), found[3] == '1'

local function tell(whom, milliseconds)
  call('PUBLISH', T .. 'changed:' .. run, '\0' .. name .. '\0' .. whom .. '\0' .. string.format('%.0f', milliseconds))
end

local function stay(milliseconds)
  call('PEXPIRE', lock, string.format('%.0f', milliseconds + SPARE))
  call('PEXPIRE', line, string.format('%.0f', milliseconds + SPARE))
end

local function give(whom, milliseconds, as_offer)
  holder, ends, offered = whom, now + milliseconds, as_offer
  call('HSET', lock, 'holder', whom, 'ends', string.format('%.0f', ends), 'offered', as_offer and '1' or '0')
  stay(milliseconds)
  if as_offer or call('EXISTS', line) == 1 then tell(whom, milliseconds) end
end

-- The lock is free: whoever waited longest has it, as soon as it says that it is still there.
local function pass_on()
  call('DEL', lock)
  holder = false
  local first = call('ZRANGE', line, 0, 0)[1]
  if first then
    call('ZREM', line, first)
    give(first, OFFERED, true)
  end
end

-- Who did not take up an offer is dead or cut off, and with it all that wait in that process: they shall not be offered it one after the other.
-- Those that live after all hear that they are to look, and get their old places back.
local function drop_process()
  local process = string.match(holder, '^[^/]*/')
  local gone = {}
  for _, other in ipairs(call('ZRANGE', line, 0, -1)) do
    if string.sub(other, 1, #process) == process then gone[#gone + 1] = other end
  end
  for i = 1, #gone, SLICE do call('ZREM', line, unpack(gone, i, math.min(i + SLICE - 1, #gone))) end
  if #gone > 0 then tell('', 0) end
end
