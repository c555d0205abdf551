-- What an application asks of a run. ARGV: shift, budget, run, what, then what it takes. Where something is done, the last word of the reply is whether
-- there are workers, or have been in the last days.

local id, what = ARGV[3], ARGV[4]
local r = M.load(id)
if not r then return { 'unknown' } end

local answer = 0
if what == 'cancel' then -- reason, token
  if not M.is_over(r) then
    write(r, 'token of end', ARGV[6])
    M.finish(r, 'cancelled', 'cancelled', nil, ARGV[5])
    answer = 1
  elseif field(r, 'token of end') == ARGV[6] then
    answer = 2
  end
elseif what == 'expire' then -- reason, generation: execute(timeout=) ran out; of a run that was begun anew meanwhile it says nothing
  if not M.is_over(r) and r.v[GENERATION] == tonumber(ARGV[6]) then
    M.finish(r, 'failed', 'timeout', nil, ARGV[5])
    answer = 1
  end
elseif what == 'resume' then -- node, token
  local n = tonumber(ARGV[5])
  if field(r, 'token of ' .. n) == ARGV[6] then
    answer = 2
  elseif M.resume(r, n) then
    write(r, 'token of ' .. n, ARGV[6])
    answer = 1
  end
elseif what == 'watch' then -- inbox
  local list = field(r, 'watch')
  list = list and unpacked(list) or {}
  local known = false
  for _, inbox in ipairs(list) do known = known or inbox == ARGV[5] end
  if not known then
    list[#list + 1] = ARGV[5]
    call('HSET', r.key, 'watch', pack(list))
  end
  local suspended = not M.is_over(r) and r.v[SUSPENSIONS] > 0 and r.v[OUT] == 0
  return { 'watched', suspended and 'suspended' or r.st, r.v[LIVE], r.v[GENERATION] }
elseif what == 'withdraw' then -- stream, from where
  -- What an ended run left in line, some of it at a time. Workers drop it when they come to it; this is for where there are none.
  local stream, left = ARGV[5], {}
  if not M.is_over(r) or call('EXISTS', P .. 'leases') == 1 then return { 'withdrawn', '' } end
  local entries = call('XRANGE', P .. 'q:' .. stream, ARGV[6], '+', 'COUNT', BUDGET)
  for _, entry in ipairs(entries) do
    local known, m = pcall(unpacked, entry[2][2])
    if entry[2][1] == 'm' and known and type(m) == 'table' and m[2] == id and m[4] == r.v[GENERATION] then left[#left + 1] = entry[1] end
  end
  if #left > 0 then
    many('XDEL', P .. 'q:' .. stream, left)
    call('HINCRBY', P .. 'counts', 'dropped', #left)
  end
  settle_streams({ [stream] = true })
  return { 'withdrawn', #entries < BUDGET and '' or '(' .. entries[#entries][1] }
elseif what == 'find' then -- id of a node made at run time
  return { 'found', M.find_made(r, ARGV[5]) or -1 }
end
if answer == 1 then
  r.worked = true
  M.settle_down(r)
  carry_out()
  write_back()
  settle_streams({})
end
return { 'done', answer > 0 and 1 or 0, call('EXISTS', P .. 'leases') }
