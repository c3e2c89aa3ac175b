------------------------------------------------------------------------------------------------- dead letters
-- The indexes `all` and `open` hold the same ids by the time of their end, `open` without those that were requeued. What
-- a dead letter says is in its job's record.

-- KEYS all, open; ARGV job, ended ms, retention ms, most -> {1 if it was not there, or 0, then ids that are too many ...}
-- The oldest are too many. They stay until their caller has let their jobs go, some of them at a time.
local function bury(keys, args)
  local oldest = now_ms() - tonumber(args[3])
  local added = tonumber(args[2]) > oldest and redis.call('ZADD', keys[1], 'NX', args[2], args[1]) or 0
  if added == 1 then redis.call('ZADD', keys[2], args[2], args[1]) end
  for _, key in ipairs(keys) do
    redis.call('ZREMRANGEBYSCORE', key, '-inf', digits(oldest))
    redis.call('PEXPIRE', key, args[3])
  end
  local reply = { added }
  local over = math.min(redis.call('ZCARD', keys[1]) - tonumber(args[4]), MAX_OVER)
  if over > 0 then
    for _, job in ipairs(redis.call('ZRANGE', keys[1], 0, over - 1)) do reply[#reply + 1] = job end
  end
  return reply
end

-- KEYS all or open; ARGV ended ms, job, most -> {job, ended ms ...}: those that ended before, the last one first.
-- Where many ended at once, their ids say in which order.
local function letters(keys, args)
  local found, offset, most = {}, 0, tonumber(args[3])
  while true do
    local page = redis.call('ZRANGE', keys[1], args[1], '-inf', 'BYSCORE', 'REV', 'LIMIT', offset, most, 'WITHSCORES')
    for i = 1, #page, 2 do
      if page[i + 1] ~= args[1] or page[i] < args[2] then
        found[#found + 1] = page[i]
        found[#found + 1] = page[i + 1]
        if #found == 2 * most then return found end
      end
    end
    if #page < 2 * most then return found end
    offset = offset + most
  end
end

-- KEYS open; ARGV retention ms -> how many there are
local function open_letters(keys, args)
  return redis.call('ZCOUNT', keys[1], '(' .. digits(now_ms() - tonumber(args[1])), '+inf')
end

-- KEYS record; ARGV the new job -> 1, or 0 if the record is gone. Who said so first is right.
local function requeued(keys, args)
  if redis.call('EXISTS', keys[1]) == 0 then return 0 end
  redis.call('HSETNX', keys[1], 'requeued_as', args[1])
  return 1
end

-- KEYS record, log, request, result; ARGV retention ms -> 1, or 0 if it never was a dead letter. The same again is 1.
-- The job is kept for as long after its end as one that is no dead letter.
local function dismiss(keys, args)
  local record = redis.call('HMGET', keys[1], 'status', 'ended', 'hidden')
  if record[1] ~= 'failed' or record[3] then return 0 end
  redis.call('HSET', keys[1], 'dismissed', '1')
  local at = digits(tonumber(record[2]) + tonumber(args[1]))
  for _, key in ipairs(keys) do redis.call('PEXPIREAT', key, at, 'LT') end
  return 1
end

