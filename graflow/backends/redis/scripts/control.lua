-- What an application asks of a run. ARGV: shift, budget, run, what, then what it takes.

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
return { 'done', answer > 0 and 1 or 0 }
