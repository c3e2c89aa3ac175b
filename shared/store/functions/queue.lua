---------------------------------------------------------------------------------------------------- queue side

-- A tenant's list lives as long as the job of it that lives longest. Older versions gave it no end.
local function keep_list(list, ms, most)
  local left = redis.call('PTTL', list)
  if left == -1 and redis.call('ZCARD', list) > 1 then ms = most end
  if left < ms then redis.call('PEXPIRE', list, ms) end
end

-- KEYS lane, active, arq job, tenant's jobs, wake_ups, reservations [, idempotency]
-- ARGV job, fingerprint, idempotency ttl ms, max depth, arq message, due in ms, check in ms, oldest id that is listed,
--   ms for which the job can be read, the most that this is for any job, tenant, ledgers, most waiting or '', most
--   running or ''
-- -> {'admitted', job, position} | {'existing', job} | {'conflict', job} | {'full', depth} | {'bound', which, most}
local function admit(keys, args)
  local lane, active, message, listed, wake_ups, reservations, idempotency = unpack(keys)
  local job, now, ledger = args[1], now_ms(), ledger_of(args[12], args[11])
  local queue = { active = active, reservations = reservations, ledgers = args[12] }
  if idempotency then
    local used = redis.call('GET', idempotency)
    if used then
      local former, fingerprint = string.match(used, '^(%S+) (%S*)$')
      if fingerprint ~= args[2] then return { 'conflict', former } end
      if former ~= job then return { 'existing', former } end
    end
  end
  local depth = redis.call('ZCOUNT', lane, '-inf', now)
  if depth >= tonumber(args[4]) then return { 'full', depth } end
  if redis.call('HEXISTS', reservations, job) == 0 then
    local bound = reached(ledger, queue, now, args[13])
    if bound then return bound end
  end
  set_term(ledger, 'running', args[14])
  if redis.call('PTTL', ledger.terms) < tonumber(args[9]) then redis.call('PEXPIRE', ledger.terms, args[9]) end
  reserve(ledger, reservations, job, args[11], lane, wake_ups)
  if idempotency then redis.call('SET', idempotency, job .. ' ' .. args[2], 'PX', args[3]) end
  redis.call('SET', message, args[5])
  redis.call('ZADD', lane, 'NX', digits(now + tonumber(args[6])), job)
  redis.call('ZADD', active, 'NX', digits(now + tonumber(args[7])), job)
  redis.call('ZADD', listed, 0, job) -- ids sort by creation
  redis.call('ZREMRANGEBYLEX', listed, '-', '(' .. args[8])
  keep_list(listed, tonumber(args[9]), tonumber(args[10]))
  return { 'admitted', job, depth + 1 }
end

-- KEYS tenant's jobs or idempotency, for each of many
-- ARGV the most for which any job can be read (ms), then for each (job, ms for which it can be read), or (job and
--   fingerprint, ms for which the key counts)
-- Restore lost entries. Entries that exist are newer and stay.
local function relist(keys, args)
  for i, key in ipairs(keys) do
    local value, ms = args[2 * i], args[2 * i + 1]
    if string.find(value, ' ', 1, true) then
      redis.call('SET', key, value, 'PX', ms, 'NX')
    else
      redis.call('ZADD', key, 0, value)
      keep_list(key, tonumber(ms), tonumber(args[1]))
    end
  end
  return 1
end

-- KEYS lane, active, arq job, claim, tenant's jobs, reservations [, idempotency]; ARGV job, ledgers
-- -> 1 if the job was taken back that was let in and could not be recorded. One that is due has been recorded by another
-- call with the same Idempotency-Key, or a worker finds that it has no record.
local function withdraw(keys, args)
  local lane, active, message, claim, listed, reservations, idempotency = unpack(keys)
  local due = redis.call('ZSCORE', lane, args[1])
  if not due or tonumber(due) <= now_ms() or redis.call('EXISTS', claim) == 1 then return 0 end
  settle({ reservations = reservations, ledgers = args[2] }, args[1])
  redis.call('ZREM', lane, args[1])
  redis.call('ZREM', active, args[1])
  redis.call('ZREM', listed, args[1])
  redis.call('DEL', message)
  if idempotency then redis.call('DEL', idempotency) end
  return 1
end

-- KEYS idempotency, deleted; ARGV job -> 1 if its owner deleted the job: its Idempotency-Key may be used again
local function free(keys, args)
  if redis.call('EXISTS', keys[2]) == 0 then return 0 end
  local used = redis.call('GET', keys[1])
  if used and string.match(used, '^(%S+) ') == args[1] then redis.call('DEL', keys[1]) end
  return 1
end

-- KEYS lane, wake_ups, claim, reservations; ARGV job, ledgers -> 1, or 0 if it was taken or ended meanwhile
local function release(keys, args)
  if redis.call('EXISTS', keys[3]) == 1 or not redis.call('ZSCORE', keys[1], args[1]) then return 0 end
  notify({ reservations = keys[4], ledgers = args[2] }, keys[1], keys[2], args[1])
  return 1
end

-- The next due job of a lane is claimed, or put off. -> {job, due ms} | 'none' | 'passed' | 'put off', ms until due
local function take_head(lane, owner, lease, now, queue)
  local head = redis.call('ZRANGE', lane, 0, 0, 'WITHSCORES')
  if #head == 0 then return 'none' end
  local job, due = head[1], tonumber(head[2])
  if due > now then return 'none', due - now end
  local again, ledger = now + lease, nil
  job, due, ledger = next_of(queue, lane, job, due, now)
  if queue.retries == '' or redis.call('EXISTS', queue.retries .. job) == 0 then
    if ledger and not may_run(ledger, queue, job, now) then
      hold(queue, ledger, lane, job, due, now)
      had_turn(queue, ledger, lane)
      return 'passed'
    end
    if redis.call('SET', queue.claims .. job, owner, 'NX', 'PX', lease) then
      redis.call('ZADD', lane, 'XX', digits(again), job)
      if ledger then
        start(queue, ledger, lane, job)
        had_turn(queue, ledger, lane)
      end
      return { job, digits(due) }
    end
    -- Due but claimed: a lane entry that a renewal has not reached yet. It is due again when the claim ends.
    local left = redis.call('PTTL', queue.claims .. job)
    if left < 0 or left > LONG_LEASES * lease then
      -- A server that was set back would keep a dead worker's claim for as long.
      redis.call('PEXPIRE', queue.claims .. job, lease)
    else
      again = now + math.max(left, 1)
    end
  end
  if ledger then unready(queue, ledger, lane, job) end
  redis.call('ZADD', lane, 'XX', digits(again), job)
  return 'put off'
end

-- What arq's `run_job` reads of a job that it begins, and counts in the same step: its message, and its tries.
local function begin_of_arq(job, messages, retries)
  local tries = redis.call('INCRBY', retries .. job, 1)
  redis.call('EXPIRE', retries .. job, ARQ_RETRY_S)
  return redis.call('GET', messages .. job), tries
end

-- The record and the request of a job; {} if this server does not have them, or if the request is too large.
local function stored_job(job, jobs)
  if jobs == '' then return {} end
  local base = jobs .. '{' .. job .. '}:'
  local request = redis.call('GETRANGE', base .. 'request', 0, MAX_TAKEN_BYTES)
  if request == '' or #request > MAX_TAKEN_BYTES then return {} end
  return { redis.call('HGETALL', base .. 'record'), request }
end

-- KEYS active, reservations, slots, lane ..., then the wake_ups of each
-- ARGV owner, lease ms, claim prefix, retry prefix, '1' to spare jobs or '', valid until (ms) or '', ledgers, the caller's
--   slots, arq message prefix, prefix of the jobs' keys or '' if they are on another server
-- The first lane that has a ready job is served: in which order they are asked is the caller's (shared/model/lanes.py). Within
-- a lane tenants take turns.
-- To spare jobs, those that ran before stay where they are for one lease: after an outage their workers come first.
-- A call that waited past its time in a server that was frozen claims nothing: claims have run out meanwhile that their
-- holders could not renew, and its caller has given it up.
-- A job of a tenant at its bound is passed over, and woken when one of them ends.
-- -> {lane index from 1, now, jobs passed over, job, due ms, tries, message or false [, record, request]}
--  | {-1, now, 0} (too late) | {0, now, jobs passed over, ms until the next is due, or -1}
-- Tries are 0 if arq's keys can't be read: the caller then reads them itself, and gets the error.
-- A taken job stays in its lane, due again when its lease ends: a worker that dies needs no sweeper to be replaced.
local function take(keys, args)
  local now, lease, nearest, passed = now_ms(), tonumber(args[2]), -1, 0
  if args[6] ~= '' and now > tonumber(args[6]) then return { -1, digits(now), 0 } end
  local queue = { active = keys[1], reservations = keys[2], slots = keys[3], claims = args[3],
    retries = args[5] ~= '' and args[4] or '', ledgers = args[7], own_slots = tonumber(args[8]) }
  local lanes = (#keys - 3) / 2
  for lane = 1, lanes do
    while true do
      local found, in_ms = take_head(keys[lane + 3], args[1], lease, now, queue)
      if type(found) == 'table' then
        local job = found[1]
        local counted, message, tries = pcall(begin_of_arq, job, args[9], args[4])
        if not counted then return { lane, digits(now), passed, job, found[2], 0, false } end
        local read, stored = pcall(stored_job, job, args[10])
        if not read then stored = {} end
        return { lane, digits(now), passed, job, found[2], tries, message, stored[1], stored[2] }
      end
      if found == 'none' then
        if in_ms and (nearest < 0 or in_ms < nearest) then nearest = in_ms end
        break
      end
      if found == 'passed' then passed = passed + 1 end
      -- One call must not hold up the server for all the jobs of a tenant: its caller asks again at once.
      if passed >= MAX_PASSED then return { 0, digits(now), passed, 1 } end
    end
  end
  -- Nothing is ready, so whatever rang for these lanes has been answered.
  if lanes > 0 then redis.call('DEL', unpack(keys, lanes + 4)) end
  return { 0, digits(now), passed, nearest }
end

-- KEYS reservations, then (claim, lane) per job; ARGV lease ms, ledgers, then (job, owner) per job
-- -> 'ok' | 'lost' | 'gone' per job
-- Only for jobs that the caller still runs, by their records: a claim that merely expired is taken again.
local function renew(keys, args)
  local until_ms, answers = digits(now_ms() + tonumber(args[1])), {}
  local queue = { reservations = keys[1], ledgers = args[2] }
  for i = 1, (#keys - 1) / 2 do
    local claim, lane, job, owner = keys[2 * i], keys[2 * i + 1], args[2 * i + 1], args[2 * i + 2]
    local holder = redis.call('GET', claim)
    if not redis.call('ZSCORE', lane, job) then
      answers[i] = 'gone'
    elseif holder and holder ~= owner then
      answers[i] = 'lost'
    else
      redis.call('SET', claim, owner, 'PX', args[1])
      redis.call('ZADD', lane, 'XX', until_ms, job)
      local ledger = ledger_by_job(queue, job)
      if ledger then start(queue, ledger, lane, job) end
      answers[i] = 'ok'
    end
  end
  return answers
end

-- KEYS lane, wake_ups, claim, arq retry, reservations; ARGV job, owner, due in ms, ledgers -> 1 if it was the owner's to
-- give. It does not run any more, so `take` need not leave it to its worker.
local function give_back(keys, args)
  local lane, wake_ups, claim, retry, reservations = unpack(keys)
  if redis.call('GET', claim) ~= args[2] then return 0 end
  redis.call('DEL', claim, retry)
  local queue = { reservations = reservations, ledgers = args[4] }
  if args[3] == '0' then
    notify(queue, lane, wake_ups, args[1])
  else
    redis.call('ZADD', lane, 'XX', digits(now_ms() + tonumber(args[3])), args[1])
  end
  local ledger = ledger_by_job(queue, args[1])
  if ledger then stop(ledger, queue, args[1]) end
  return 1
end

-- KEYS lane, active, arq job, claim, arq retry, reservations; ARGV job, ledgers. The last completion step; idempotent.
local function done(keys, args)
  redis.call('ZREM', keys[2], args[1])
  redis.call('ZREM', keys[1], args[1])
  redis.call('DEL', keys[3], keys[4], keys[5])
  settle({ reservations = keys[6], ledgers = args[2] }, args[1])
  return 1
end

-- KEYS lane, active, claim, reservations, retry; ARGV job, ledgers, check in ms
-- A job has ended, and its completion steps have not run: it waits no longer, and is checked no later than this. Its arq
-- message stays for the last step: a starting worker compares the jobs that have not completed with the messages. arq
-- has counted a retry if this worker took the job, perhaps after another one's last step.
local function leave_lane(keys, args)
  redis.call('ZADD', keys[2], 'XX', 'LT', digits(now_ms() + tonumber(args[3])), args[1])
  redis.call('ZREM', keys[1], args[1])
  redis.call('DEL', keys[3], keys[5])
  settle({ reservations = keys[4], ledgers = args[2] }, args[1])
  return 1
end

-- KEYS active; ARGV then (job, in ms) per job: the reaper should check it no later than this
local function schedule_check(keys, args)
  local now = now_ms()
  for i = 1, #args / 2 do
    redis.call('ZADD', keys[1], 'XX', 'LT', digits(now + tonumber(args[2 * i])), args[2 * i - 1])
  end
  return 1
end

-- KEYS active; ARGV hold ms, limit -> {now, job ...}: due for a check, and hidden from other reapers for the hold
local function due(keys, args)
  local now = now_ms()
  local jobs = redis.call('ZRANGE', keys[1], '-inf', digits(now), 'BYSCORE', 'LIMIT', 0, args[2])
  for _, job in ipairs(jobs) do redis.call('ZADD', keys[1], 'XX', digits(now + tonumber(args[1])), job) end
  table.insert(jobs, 1, digits(now))
  return jobs
end

-- KEYS lane, active, arq job, wake_ups, claim, reservations
-- ARGV job, arq message, check in ms, due in ms, held until (ms) or '', '1' if it began, tenant or '', ledgers
-- -> 1 if the queue had lost the job. Only the holder (due) postpones the check; an earlier one that was requested
-- meanwhile stays. A job without a reservation, which another version let in, gets one.
local function restore(keys, args)
  local lane, active, message, wake_ups, claim, reservations = unpack(keys)
  local now, job = now_ms(), args[1]
  local queue, check_at = { reservations = reservations, ledgers = args[8] }, digits(now + tonumber(args[3]))
  if redis.call('ZSCORE', active, job) == args[5] then
    redis.call('ZADD', active, check_at, job)
  else
    redis.call('ZADD', active, 'LT', check_at, job)
  end
  if args[7] ~= '' and redis.call('HEXISTS', reservations, job) == 0 then
    local ledger = ledger_of(args[8], args[7])
    reserve(ledger, reservations, job, args[7], lane, wake_ups)
    if args[6] == '1' or redis.call('EXISTS', claim) == 1 then start(queue, ledger, lane, job) end
  end
  if redis.call('ZSCORE', lane, job) and redis.call('EXISTS', message) == 1 then return 0 end
  redis.call('SET', message, args[2])
  redis.call('ZADD', lane, 'NX', digits(now + tonumber(args[4])), job)
  if args[4] == '0' then notify(queue, lane, wake_ups, job) end
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

-- KEYS worker's host, slots; ARGV worker, its slots, ttl ms. Workers that have been silent for so long have no slots.
local function alive(keys, args)
  local now = now_ms()
  redis.call('SET', keys[1], '1', 'PX', args[3])
  redis.call('ZREMRANGEBYSCORE', keys[2], '-inf', digits(now))
  redis.call('ZADD', keys[2], digits(now + tonumber(args[3])), args[1] .. ' ' .. args[2])
  redis.call('PEXPIRE', keys[2], args[3])
  return 1
end

-- KEYS processes, metrics of one; ARGV process, its metrics, ttl ms. Those that have been silent for so long are dropped.
local function publish_metrics(keys, args)
  local now = now_ms()
  redis.call('SET', keys[2], args[2], 'PX', args[3])
  redis.call('ZADD', keys[1], digits(now + tonumber(args[3])), args[1])
  redis.call('ZREMRANGEBYSCORE', keys[1], '-inf', digits(now))
  redis.call('PEXPIRE', keys[1], args[3])
  return 1
end

