-- Append or prepend. ARGV: shift, run, operation, key, "front" or "back", number of items, items as the codec's bytes one after the other.
-- Returns the new length; or {"type", what is there} if that is no list.

local op, key, front, count, items = ARGV[3], ARGV[4], ARGV[5] == 'front', tonumber(ARGV[6]), ARGV[7]
local before = answered(op)
if before then return before end
lapse(key)

local field, list = call('HGET', ch, key), list_of(key)
local size, mark, whole = 0, 'l', ''
if is_list(field) then
  size, mark = tonumber(sub(field, 2)), sub(field, 1, 1)
elseif field then
  -- A list that was set as a whole: what follows its length becomes the first element, however many items that is.
  local kind, b = sub(field, 1, 1), byte(field, 2)
  local from
  if b >= 0x90 and b <= 0x9f then
    size, from = b - 0x90, 3
  elseif b == 0xdc then
    size, from = byte(field, 3) * 256 + byte(field, 4), 5
  elseif b == 0xdd then
    size, from = ((byte(field, 3) * 256 + byte(field, 4)) * 256 + byte(field, 5)) * 256 + byte(field, 6), 7
  else
    return { 'type', field }
  end
  whole, mark = sub(field, from), kind == 'V' and 'L' or 'l'
end
if count == 0 then return tostring(size) end

if whole ~= '' then call('RPUSH', list, whole) end
call(front and 'LPUSH' or 'RPUSH', list, items)
local length = string.format('%.0f', size + count)
call('HSET', ch, key, mark .. length)
call('SADD', extra, list)
keep_no_longer(list)
announce(key)
return answer(op, length)
