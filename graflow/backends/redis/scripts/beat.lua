-- A worker lives: its lease is renewed, or refused when it has lapsed. ARGV: shift, consumer, length of the lease in ms, what it can do (when it
-- joins, else empty). Returns whether it lives, and whether somebody else's work is to be recovered.

local P, T, call = KEYS[1], KEYS[2] or KEYS[1], redis.call
local t = call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000) + tonumber(ARGV[1])
local consumer, lease, info = ARGV[2], tonumber(ARGV[3]), ARGV[4]

local known = call('ZSCORE', P .. 'leases', consumer)
if info == '' and (not known or tonumber(known) < now) then -- a lease that has lapsed is never brought back to life
  -- It may have read once more since it was taken for dead, and die before it hears of that: see reap.lua.
  if call('EXPIRE', P .. 'leases', 7 * 86400) == 1 then call('ZADD', P .. 'leases', 'GT', string.format('%.0f', now + 6000), '!') end
  return { 0, 1 }
end
-- First a write that a full memory does not forbid: after it none is forbidden, and a worker keeps its lease.
call('EXPIRE', P .. 'leases', 7 * 86400)
call('ZADD', P .. 'leases', string.format('%.0f', now + lease), consumer)
if info ~= '' then call('HSET', P .. 'workers', consumer, info) end
-- A server that was emptied gets another epoch: whoever waits for a run hears of it by the pulse, and looks.
local epoch = call('GET', P .. 'epoch')
if not epoch then
  epoch = t[1] .. '.' .. t[2]
  call('SET', P .. 'epoch', epoch)
end
call('PUBLISH', T .. 'pulse', cmsgpack.pack({ epoch, consumer, info ~= '' and info or call('HGET', P .. 'workers', consumer) or '' }))
for _, name in ipairs({ 'leases', 'workers', 'streams', 'counts', 'epoch' }) do call('EXPIRE', P .. name, 7 * 86400) end

if #call('ZRANGEBYSCORE', P .. 'leases', '-inf', string.format('(%.0f', now), 'LIMIT', 0, 1) > 0 then return { 1, 1 } end
for _, stream in ipairs(call('SMEMBERS', P .. 'streams')) do
  local consumers = redis.pcall('XINFO', 'CONSUMERS', P .. 'q:' .. stream, 'g')
  for _, c in ipairs(consumers.err and {} or consumers) do
    if c[4] > 0 and not call('ZSCORE', P .. 'leases', c[2]) then return { 1, 1 } end
  end
end
return { 1, 0 }
