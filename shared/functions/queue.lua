---------------------------------------------------------------------------------------------------- queue side

-- A tenant's list lives as long as the job of it that lives longest. Older versions gave it no end.
local function keep_list(list, ms, most)
  local left = redis.call('PTTL', list)
  if left == -1 and redis.call('ZCARD', list) > 1 then ms = most end
  if left < ms then redis.call('PEXPIRE', list, ms) end
end

-- KEYS lane, active, arq job, tenant's jobs [, idempotency]
-- ARGV job, fingerprint, idempotency ttl ms, max depth, arq message, due in ms, look in ms, oldest id that is listed,
-- ms for which the job can be read, the most that this is for any job
-- -> {'admitted', job, position} | {'existing', job} | {'conflict', job} | {'full', depth}
local function admit(keys, args)
  local job, now = args[1], now_ms()
  if keys[5] then
    local used = redis.call('GET', keys[5])
    if used then
      local former, fingerprint = string.match(used, '^(%S+) (%S*)$')
      if fingerprint ~= args[2] then return { 'conflict', former } end
      if former ~= job then return { 'existing', former } end
    end
  end
  local depth = redis.call('ZCOUNT', keys[1], '-inf', now)
  if depth >= tonumber(args[4]) then return { 'full', depth } end
  if keys[5] then redis.call('SET', keys[5], job .. ' ' .. args[2], 'PX', args[3]) end
  redis.call('SET', keys[3], args[5])
  redis.call('ZADD', keys[1], 'NX', digits(now + tonumber(args[6])), job)
  redis.call('ZADD', keys[2], 'NX', digits(now + tonumber(args[7])), job)
  redis.call('ZADD', keys[4], 0, job) -- ids sort by creation
  redis.call('ZREMRANGEBYLEX', keys[4], '-', '(' .. args[8])
  keep_list(keys[4], tonumber(args[9]), tonumber(args[10]))
  return { 'admitted', job, depth + 1 }
end

-- A job is due now: somebody who waits shall hear it.
local function ring(lane, bell, job)
  redis.call('ZADD', lane, 'XX', digits(now_ms()), job)
  redis.call('LPUSH', bell, '1')
  redis.call('LTRIM', bell, 0, MAX_BELLS - 1)
end

-- KEYS idempotency, deleted; ARGV job -> 1 if its owner deleted the job: what it was asked under may be used anew
local function free(keys, args)
  if redis.call('EXISTS', keys[2]) == 0 then return 0 end
  local used = redis.call('GET', keys[1])
  if used and string.match(used, '^(%S+) ') == args[1] then redis.call('DEL', keys[1]) end
  return 1
end

-- KEYS lane, bell, claim; ARGV job -> 1, or 0 if it was taken or ended meanwhile
local function release(keys, args)
  if redis.call('EXISTS', keys[3]) == 1 or not redis.call('ZSCORE', keys[1], args[1]) then return 0 end
  ring(keys[1], keys[2], args[1])
  return 1
end

-- KEYS lane ..., then the bell of each; ARGV owner, lease ms, claim prefix, retry prefix or '', valid until (ms) or ''
-- The first lane that has a ready job is served: in which order they are asked is the caller's (shared/lanes.py).
-- With a retry prefix, jobs that ran before stay where they are for one lease: after an outage their workers come first.
-- A call that waited past its time in a server that was frozen claims nothing: claims have run out meanwhile that their
-- holders could not renew, and its caller has given it up.
-- -> {lane index from 1, now, job, due ms} | {0, now, ms until the next is due, or -1} | {-1, now} (too late)
-- A taken job stays in its lane, due again when its lease ends: a worker that dies needs no sweeper to be replaced.
local function take(keys, args)
  local now, lease, nearest = now_ms(), tonumber(args[2]), -1
  if args[5] ~= '' and now > tonumber(args[5]) then return { -1, digits(now) } end
  local lanes = #keys / 2
  for lane = 1, lanes do
    while true do
      local head = redis.call('ZRANGE', keys[lane], 0, 0, 'WITHSCORES')
      if #head == 0 then break end
      local job, due = head[1], tonumber(head[2])
      if due > now then
        if nearest < 0 or due - now < nearest then nearest = due - now end
        break
      end
      local again = now + lease
      if args[4] == '' or redis.call('EXISTS', args[4] .. job) == 0 then
        if redis.call('SET', args[3] .. job, args[1], 'NX', 'PX', lease) then
          redis.call('ZADD', keys[lane], 'XX', digits(again), job)
          return { lane, digits(now), job, digits(due) }
        end
        -- Due but claimed: a lane entry that a renewal has not reached yet. It comes back when the claim ends.
        local left = redis.call('PTTL', args[3] .. job)
        if left < 0 then redis.call('PEXPIRE', args[3] .. job, lease) else again = now + math.max(left, 1) end
      end
      redis.call('ZADD', keys[lane], 'XX', digits(again), job)
    end
  end
  -- Nothing is ready, so whatever rang for these lanes has been answered.
  if lanes > 0 then redis.call('DEL', unpack(keys, lanes + 1)) end
  return { 0, digits(now), nearest }
end

-- KEYS (claim, lane) per job; ARGV lease ms, then (job, owner) per job -> 'ok' | 'lost' | 'gone' per job
-- Only for jobs whose record says that the caller still runs them: a claim that merely expired is taken again.
local function renew(keys, args)
  local until_ms, answers = digits(now_ms() + tonumber(args[1])), {}
  for i = 1, #keys / 2 do
    local claim, lane, job, owner = keys[2 * i - 1], keys[2 * i], args[2 * i], args[2 * i + 1]
    local holder = redis.call('GET', claim)
    if not redis.call('ZSCORE', lane, job) then
      answers[i] = 'gone'
    elseif holder and holder ~= owner then
      answers[i] = 'lost'
    else
      redis.call('SET', claim, owner, 'PX', args[1])
      redis.call('ZADD', lane, 'XX', until_ms, job)
      answers[i] = 'ok'
    end
  end
  return answers
end

-- KEYS lane, bell, claim, arq retry; ARGV job, owner, due in ms -> 1 if it was the owner's to give. Nobody runs it any
-- more, so that there is no worker to whom `take` would have to leave it.
local function give_back(keys, args)
  if redis.call('GET', keys[3]) ~= args[2] then return 0 end
  redis.call('DEL', keys[3], keys[4])
  if args[3] == '0' then
    ring(keys[1], keys[2], args[1])
  else
    redis.call('ZADD', keys[1], 'XX', digits(now_ms() + tonumber(args[3])), args[1])
  end
  return 1
end

-- KEYS lane, active, arq job, claim, arq retry; ARGV job. The epilogue's last step; idempotent.
local function done(keys, args)
  redis.call('ZREM', keys[2], args[1])
  redis.call('ZREM', keys[1], args[1])
  redis.call('DEL', keys[3], keys[4], keys[5])
  return 1
end

-- KEYS active; ARGV then (job, in ms) per job: the reaper should look no later than this
local function look(keys, args)
  local now = now_ms()
  for i = 1, #args / 2 do
    redis.call('ZADD', keys[1], 'XX', 'LT', digits(now + tonumber(args[2 * i])), args[2 * i - 1])
  end
  return 1
end

-- KEYS active; ARGV hold ms, limit -> {now, job ...}: due for a look, and hidden from other reapers for the hold
local function due(keys, args)
  local now = now_ms()
  local jobs = redis.call('ZRANGE', keys[1], '-inf', digits(now), 'BYSCORE', 'LIMIT', 0, args[2])
  for _, job in ipairs(jobs) do redis.call('ZADD', keys[1], 'XX', digits(now + tonumber(args[1])), job) end
  table.insert(jobs, 1, digits(now))
  return jobs
end

-- KEYS lane, active, arq job, bell; ARGV job, arq message, look in ms, due in ms, held until (ms) or '' -> 1 if the
-- queue had lost the job. Only whoever holds it (due) puts the look off; who asked for an earlier one meanwhile gets it.
local function restore(keys, args)
  local now = now_ms()
  local look_at = digits(now + tonumber(args[3]))
  if redis.call('ZSCORE', keys[2], args[1]) == args[5] then
    redis.call('ZADD', keys[2], look_at, args[1])
  else
    redis.call('ZADD', keys[2], 'LT', look_at, args[1])
  end
  if redis.call('ZSCORE', keys[1], args[1]) and redis.call('EXISTS', keys[3]) == 1 then return 0 end
  redis.call('SET', keys[3], args[2])
  redis.call('ZADD', keys[1], 'NX', digits(now + tonumber(args[4])), args[1])
  if args[4] == '0' then ring(keys[1], keys[4], args[1]) end
  return 1
end

-- KEYS lane ... -> {jobs that are due and not taken, ms since the first of them was due} per lane
local function backlog(keys)
  local now, answers = now_ms(), {}
  for i, lane in ipairs(keys) do
    local head = redis.call('ZRANGE', lane, 0, 0, 'WITHSCORES')
    local age = head[2] and math.max(now - tonumber(head[2]), 0) or 0
    answers[i] = { redis.call('ZCOUNT', lane, '-inf', digits(now)), age }
  end
  return answers
end

-- KEYS processes, metrics of one; ARGV process, its metrics, ttl ms. Those that have been silent for so long are dropped.
local function tell(keys, args)
  local now = now_ms()
  redis.call('SET', keys[2], args[2], 'PX', args[3])
  redis.call('ZADD', keys[1], digits(now + tonumber(args[3])), args[1])
  redis.call('ZREMRANGEBYSCORE', keys[1], '-inf', digits(now))
  redis.call('PEXPIRE', keys[1], args[3])
  return 1
end

