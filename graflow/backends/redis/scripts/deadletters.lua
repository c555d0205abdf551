-- What cannot be run is kept for a week with its reason, and found in the order in which it came.

local WEEK = 7 * 86400

local function bury(reason, stream, text, detail)
  local old = call('ZRANGEBYSCORE', P .. 'dlq', '-inf', string.format('%.0f', M.now() - WEEK * 1000), 'LIMIT', 0, 200)
  if #old > 0 then
    many('ZREM', P .. 'dlq', old)
    many('HDEL', P .. 'dlq:items', old)
  end
  local id = string.format('%.0f-%d', M.now(), call('HINCRBY', P .. 'counts', 'dead', 1))
  call('ZADD', P .. 'dlq', string.format('%.0f', M.now()), id)
  call('HSET', P .. 'dlq:items', id, pack({ reason, stream, text, detail or '' }))
  call('EXPIRE', P .. 'dlq', WEEK)
  call('EXPIRE', P .. 'dlq:items', WEEK)
  return id
end
