---------------------------------------------------------------------------------------------------- providers

-- KEYS breaker states; ARGV (name, value that was read, 1 to change it, new value or '' to delete it) per state
-- -> {now, then per state: 1 if it was changed, its value after that or ''}
local function compare_and_set(keys, args)
  local answers = { digits(now_ms()) }
  for i = 1, #args, 4 do
    local value, changed = redis.call('HGET', keys[1], args[i]) or '', 0
    if args[i + 2] == '1' and value == args[i + 1] then
      value, changed = args[i + 3], 1
      if value == '' then
        redis.call('HDEL', keys[1], args[i])
      else
        redis.call('HSET', keys[1], args[i], value)
        redis.call('PEXPIRE', keys[1], BREAKER_STATES_MS)
      end
    end
    answers[#answers + 1] = changed
    answers[#answers + 1] = value
  end
  return answers
end

-- KEYS holders, waiters (score: time of the first request), interest (score: time at which the waiter is dropped)
-- ARGV holder, job, limit, lease ms, waiter timeout ms or '' if the job does not wait -> 1 if it has a permit
local function acquire_permit(keys, args)
  local now = now_ms()
  redis.call('ZREMRANGEBYSCORE', keys[1], '-inf', digits(now))
  for _, gone in ipairs(redis.call('ZRANGE', keys[3], '-inf', digits(now), 'BYSCORE')) do
    redis.call('ZREM', keys[2], gone)
    redis.call('ZREM', keys[3], gone)
  end
  local free = tonumber(args[3]) - redis.call('ZCARD', keys[1])
  local position = redis.call('ZRANK', keys[2], args[2]) or redis.call('ZCARD', keys[2])
  if redis.call('ZSCORE', keys[1], args[1]) or position < free then
    redis.call('ZADD', keys[1], digits(now + tonumber(args[4])), args[1])
    redis.call('ZREM', keys[2], args[2])
    redis.call('ZREM', keys[3], args[2])
    redis.call('PEXPIRE', keys[1], args[4])
    return 1
  end
  if args[5] == '' then return 0 end
  local last = redis.call('ZREVRANGE', keys[2], 0, 0, 'WITHSCORES')[2]
  redis.call('ZADD', keys[2], 'NX', digits(math.max(now, last and tonumber(last) + 1 or 0)), args[2])
  redis.call('ZADD', keys[3], digits(now + tonumber(args[5])), args[2])
  redis.call('PEXPIRE', keys[2], args[5])
  redis.call('PEXPIRE', keys[3], args[5])
  return 0
end

-- KEYS holders, waiters; ARGV holder, control channel, message -> 1
local function release_permit(keys, args)
  redis.call('ZREM', keys[1], args[1])
  if redis.call('ZCARD', keys[2]) > 0 then redis.call('PUBLISH', args[2], args[3]) end
  return 1
end

-- KEYS holders per permit; ARGV lease ms, then a holder per permit. An expired permit is not renewed: another job may have
-- it.
local function renew_permits(keys, args)
  local until_ms = digits(now_ms() + tonumber(args[1]))
  for i, key in ipairs(keys) do
    redis.call('ZADD', key, 'XX', until_ms, args[i + 1])
    redis.call('PEXPIRE', key, args[1])
  end
  return 1
end

