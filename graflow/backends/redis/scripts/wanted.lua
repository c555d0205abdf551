-- Which of the attempts in a worker's hands do not count any more, by their places. ARGV: shift, budget, attempts. It writes nothing.

local gone = {}
for place, a in ipairs(unpacked(ARGV[3])) do
  local r = M.load(a[1])
  if not r or r.v[GENERATION] ~= a[2] or not M.is_running(r, a[3], a[4], a[5]) then add(gone, place) end
end
return gone
