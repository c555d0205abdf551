-- Pages as text, one byte for each node or edge, for what is done with many of them at once: a table of them costs more than all that is done.

local function text_of(r, kind, k)
  local page = r.pages[kind][k]
  local text = page and char(unpack(page)) or field(r, kind .. k) or ''
  return #text == PAGE and text or text .. rep('\0', PAGE - #text)
end

local function put_text(r, kind, k, text)
  r.pages[kind][k], r.dirty[kind][k] = nil, nil
  r.fields[kind .. k] = text
end

-- Many pages of statuses, read at once.
local function read_pages(r, lo, hi)
  if hi - lo < 4 * PAGE then return end
  local names = {}
  for k = floor(lo / PAGE), floor(hi / PAGE) do names[#names + 1] = 's' .. k end
  for i = 1, #names, SLICE do
    local last = math.min(i + SLICE - 1, #names)
    for place, text in ipairs(call('HMGET', r.key, unpack(names, i, last))) do
      local name = names[i + place - 1]
      if r.raw[name] == nil then r.raw[name] = text end
    end
  end
end

local function page_text(r, k) return text_of(r, 's', k) end
local function put_page_text(r, k, text) put_text(r, 's', k, text) end

-- In a pattern, any byte but this one. Pages are read in stretches of nodes that are in no way different.
local function literal(b)
  local c = char(b)
  return b == 0 and '%z' or find(c, '^%w$') and c or '%' .. c
end

local others = {}
local function other_than(b)
  local pattern = others[b]
  if not pattern then
    pattern = '[^' .. literal(b) .. ']'
    others[b] = pattern
  end
  return pattern
end

-- The same for statuses, whatever else is in the bytes.
local function other_status(status)
  local pattern = others[-status - 1]
  if not pattern then
    local list = {}
    for b = status, 255, 8 do list[#list + 1] = literal(b) end
    pattern = '[^' .. table.concat(list) .. ']'
    others[-status - 1] = pattern
  end
  return pattern
end

-- The last place up to `last` at which the text is as it is here.
local function end_of_stretch(text, here, last)
  local other = find(text, other_than(byte(text, here)), here)
  return other and other <= last and other - 1 or last
end
