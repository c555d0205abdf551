-- Numbers of nodes and edges as ranges: lo, hi, lo, hi...

local function each(list, visit)
  for i = 1, #list, 2 do
    for n = list[i], list[i + 1] do visit(n) end
  end
end

local function size_of(list)
  local sum = 0
  for i = 1, #list, 2 do sum = sum + list[i + 1] - list[i] + 1 end
  return sum
end

local function within(list, n)
  for i = 1, #list, 2 do
    if n >= list[i] and n <= list[i + 1] then return true end
  end
  return false
end

-- What is left of a range without others.
local function without(range, list)
  local left = { { range[1], range[2] } }
  for i = 1, #list, 2 do
    local lo, hi, cut = list[i], list[i + 1], {}
    for _, piece in ipairs(left) do
      if hi < piece[1] or lo > piece[2] then
        cut[#cut + 1] = piece
      else
        if piece[1] < lo then cut[#cut + 1] = { piece[1], lo - 1 } end
        if piece[2] > hi then cut[#cut + 1] = { hi + 1, piece[2] } end
      end
    end
    left = cut
  end
  return left
end

-- Whether two lists of ranges have anything in common.
local function meet(one, other)
  for i = 1, #one, 2 do
    for k = 1, #other, 2 do
      if one[i] <= other[k + 1] and other[k] <= one[i + 1] then return true end
    end
  end
  return false
end

-- The numbers of a range that are in a list of ranges.
local function common(list, lo, hi)
  local found = {}
  for i = 1, #list, 2 do
    for n = math.max(lo, list[i]), math.min(hi, list[i + 1]) do found[#found + 1] = n end
  end
  return found
end

local function append_many(list, lo, hi)
  if #list > 0 and list[#list] == lo - 1 then list[#list] = hi else list[#list + 1], list[#list + 2] = lo, hi end
end

local function append_range(list, n)
  if #list > 0 and list[#list] == n - 1 then list[#list] = n else list[#list + 1], list[#list + 2] = n, n end
end

-- Two lists of ranges in order, as one.
local function joined(one, other)
  local list, i, k = {}, 1, 1
  while one[i] or other[k] do
    local from, at = one, i
    if not one[i] or (other[k] and other[k] < one[i]) then
      from, at, k = other, k, k + 2
    else
      i = i + 2
    end
    local last = list[#list]
    if last and from[at] <= last + 1 then
      list[#list] = math.max(last, from[at + 1])
    else
      list[#list + 1], list[#list + 2] = from[at], from[at + 1]
    end
  end
  return list
end
