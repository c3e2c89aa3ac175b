-- One job's part of a view. -> ms until the job is abandoned without another viewer, or -1 if it won't be
local function view_one(record, viewers, readers, gateway, now, lease, count, stay)
  local job = redis.call('HMGET', record, 'status', 'alone', 'abandon_at')
  if not job[1] or is_terminal(job[1]) then
    redis.call('DEL', viewers, readers)
    return -1
  end
  for _, silent in ipairs(redis.call('ZRANGE', viewers, '-inf', digits(now), 'BYSCORE')) do
    redis.call('ZREM', viewers, silent)
    redis.call('HDEL', readers, silent)
  end
  local seen_until = nil -- the end of the last viewer's lease, if it changes
  if count > 0 then
    show(viewers, readers, gateway, count, now, lease)
    seen_until = now + lease
  elseif redis.call('ZREM', viewers, gateway) == 1 then
    redis.call('HDEL', readers, gateway)
    seen_until = now + stay
    local last = redis.call('ZRANGE', viewers, 0, 0, 'REV', 'WITHSCORES')
    if last[2] then seen_until = math.max(seen_until, tonumber(last[2])) end
  end
  if not job[2] then return -1 end
  local abandon_at = tonumber(job[3])
  if seen_until then
    abandon_at = seen_until + tonumber(job[2])
    redis.call('HSET', record, 'abandon_at', digits(abandon_at))
  end
  return math.max(abandon_at - now, 0)
end

-- KEYS (record, viewers, readers) per job; ARGV gateway, lease ms, then (readers, stay ms) per job
-- -> ms until it is abandoned without another viewer or report, or -1 if it won't be, per job
-- A gateway reports its readers of each job. With no readers, the job stays alive for `stay` ms, so that a reader can
-- reconnect. Idempotent.
local function view(keys, args)
  local now, lease, answers = now_ms(), tonumber(args[2]), {}
  for i = 1, #keys / 3 do
    answers[i] = view_one(keys[3 * i - 2], keys[3 * i - 1], keys[3 * i], args[1], now, lease,
      tonumber(args[2 * i + 1]), tonumber(args[2 * i + 2]))
  end
  return answers
end

-- KEYS (viewers, readers) per job -> readers per job, of the gateways that have shown themselves
local function count_viewers(keys)
  local now, counts = now_ms(), {}
  for i = 1, #keys / 2 do
    counts[i] = 0
    for _, gateway in ipairs(redis.call('ZRANGE', keys[2 * i - 1], '(' .. digits(now), '+inf', 'BYSCORE')) do
      counts[i] = counts[i] + tonumber(redis.call('HGET', keys[2 * i], gateway) or 0)
    end
  end
  return counts
end

-- KEYS and ARGV as for cancel -> 'watched' (it has a viewer again) | as cancel
local function abandon(keys, args)
  local at = tonumber(redis.call('HGET', keys[1], 'abandon_at') or 0)
  if at == 0 or at > now_ms() then return 'watched' end
  return cancel(keys, args)
end

