-- ARGV: shift, run, operation, key, what to add as the codec's bytes. Returns the sum, in the same way; {"type", what is there} if that is no number;
-- {"large", what is there} if Lua, whose numbers are all doubles, would not get it right.

local op, key, addend = ARGV[3], ARGV[4], ARGV[5]
local before = answered(op)
if before then return before end
lapse(key)

-- A number and whether it is a float; nil for an int of 2^53 and more, where doubles have gaps.
local function number(bytes)
  local b = byte(bytes)
  if b == 0xcb then
    local n = struct.unpack('>d', sub(bytes, 2))
    return n, true
  end
  if b < 0x80 then return b, false end
  if b >= 0xe0 then return b - 256, false end
  if b < 0xcc or b > 0xd3 or (b == 0xcf and byte(bytes, 2) >= 0x80) then return nil end -- cmsgpack takes the last for a negative number
  local n = cmsgpack.unpack(bytes)
  if math.abs(n) < 2 ^ 53 then return n, false end
  return nil
end

local field = call('HGET', ch, key)
local mark = field and sub(field, 1, 1) or 'n'
if mark ~= 'n' and mark ~= 'N' then return { 'type', field } end
local a, a_is_float = number(field and sub(field, 2) or '\0')
local b, b_is_float = number(addend)
if not a or not b then return { 'large', field } end
local sum, bytes = a + b, nil
if a_is_float or b_is_float then
  bytes = '\203' .. struct.pack('>d', sum)
elseif math.abs(sum) < 2 ^ 53 then
  bytes = cmsgpack.pack(sum)
else
  return { 'large', field }
end

call('HSET', ch, key, mark .. bytes)
keep_no_longer()
announce(key)
return answer(op, bytes)
