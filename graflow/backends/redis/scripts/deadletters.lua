-- What cannot be run is kept for a week with its reason, and found in the order in which it came. Of very many the oldest go first.
--
-- The sorted set dlq holds ids by the time at which each came, the hash dlq:items what each is: reason, stream, the entry's fields as they were,
-- and a detail in the form of its reason. Ids end with a number of fixed width, so that of one millisecond they sort as they came.

local WEEK, MOST_KEPT, TRIMMED = 7 * 86400, 10000, 200

local function forget_letters(ids)
  if #ids == 0 then return end
  many('ZREM', P .. 'dlq', ids)
  many('HDEL', P .. 'dlq:items', ids)
end

local function bury(reason, stream, text, detail, fields)
  forget_letters(call('ZRANGEBYSCORE', P .. 'dlq', '-inf', string.format('%.0f', M.now() - WEEK * 1000), 'LIMIT', 0, TRIMMED))
  local over = call('ZCARD', P .. 'dlq') - MOST_KEPT
  if over >= 0 then
    forget_letters(call('ZRANGE', P .. 'dlq', 0, math.min(over, TRIMMED - 1)))
    call('HINCRBY', P .. 'counts', 'dead lost', math.min(over + 1, TRIMMED))
  end
  local id = string.format('%.0f-%06d', M.now(), call('HINCRBY', P .. 'counts', 'dead', 1) % 1000000)
  call('ZADD', P .. 'dlq', string.format('%.0f', M.now()), id)
  call('HSET', P .. 'dlq:items', id, pack({ reason, stream, fields or { 'm', text }, detail or '' }))
  for _, name in ipairs({ 'dlq', 'dlq:items', 'counts' }) do call('EXPIRE', P .. name, WEEK) end
  return id
end
