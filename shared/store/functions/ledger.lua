------------------------------------------------------------------------------------------------ queue side: ledgers
-- A tenant's ledger holds a reservation for each of its jobs that has not ended: in `waiting` until a worker takes it,
-- then in `running`. `held:<lane>` are waiting jobs that `take` has passed over, by the time when they were due, and
-- `lanes` names the lanes that have some. The hash `reservations` says of each job of all tenants: `tenant lane wake_ups`. A job that another version let in has none.
-- `ready:<lane>` are a tenant's waiting jobs that may be taken now, by the time when they were due; the lane's `turns` are
-- the tenants that have some, in the order in which they are served: after each job a tenant goes to the end.

local HELD_MS = 30000  -- a job that was passed over is checked again after this long, unless it is woken before
local MAX_PASSED = 100 -- jobs that one `take` passes over
local READY_MS = 86400000 -- jobs are ready, and tenants have turns, for as long after the last of them came
local SWEEP_MS = 5000  -- reservations are compared with the jobs no more often than this

local function ledger_of(ledgers, tenant)
  local base = ledgers .. tenant .. ':'
  return { tenant = tenant, waiting = base .. 'waiting', running = base .. 'running', terms = base .. 'terms',
    held = base .. 'held:', lanes = base .. 'lanes', ready = base .. 'ready:' }
end

local function turns_of(queue, lane) return queue.reservations .. ':turns:' .. lane end

local function go_last(turns, tenant)
  local last = redis.call('ZRANGE', turns, -1, -1, 'WITHSCORES')[2] or 0
  redis.call('ZADD', turns, digits(tonumber(last) + 1), tenant)
end

local function make_ready(queue, ledger, lane, job, due)
  local ready, turns = ledger.ready .. lane, turns_of(queue, lane)
  redis.call('ZADD', ready, digits(due), job)
  if not redis.call('ZSCORE', turns, ledger.tenant) then go_last(turns, ledger.tenant) end
  -- A job that a function of another version has ended stays here. One that waits for longer is served by time.
  redis.call('PEXPIRE', ready, READY_MS)
  redis.call('PEXPIRE', turns, READY_MS)
end

local function unready(queue, ledger, lane, job)
  local ready = ledger.ready .. lane
  if redis.call('ZREM', ready, job) == 1 and redis.call('EXISTS', ready) == 0 then
    redis.call('ZREM', turns_of(queue, lane), ledger.tenant)
  end
end

-- -> the ledger, the lane's and the wake-up list's key; nil if the job has no reservation
local function ledger_by_job(queue, job)
  local tenant, lane, wake_ups = string.match(redis.call('HGET', queue.reservations, job) or '', '^(%S+) (%S+) (%S+)$')
  if not tenant then return nil end
  return ledger_of(queue.ledgers, tenant), lane, wake_ups
end

-- Store the tenant's plan for `take`. '' removes it.
local function set_term(ledger, name, value)
  if value == '' then
    redis.call('HDEL', ledger.terms, name)
  else
    redis.call('HSET', ledger.terms, name, value)
  end
end

-- A job is due now: wake one waiting worker.
local function notify(queue, lane, wake_ups, job, due)
  due = due or now_ms()
  redis.call('ZADD', lane, 'XX', digits(due), job)
  local ledger = ledger_by_job(queue, job)
  if ledger and redis.call('ZSCORE', lane, job) then make_ready(queue, ledger, lane, job, due) end
  redis.call('LPUSH', wake_ups, '1')
  redis.call('LTRIM', wake_ups, 0, MAX_WAKE_UPS - 1)
end

local function reserve(ledger, reservations, job, tenant, lane, wake_ups)
  if redis.call('HSETNX', reservations, job, tenant .. ' ' .. lane .. ' ' .. wake_ups) == 1 then
    redis.call('ZADD', ledger.waiting, 0, job)
  end
end

local function unhold(ledger, lane, job)
  local held = ledger.held .. lane
  if redis.call('ZREM', held, job) == 1 and redis.call('EXISTS', held) == 0 then
    redis.call('ZREM', ledger.lanes, lane)
  end
end

local function start(queue, ledger, lane, job)
  unhold(ledger, lane, job)
  unready(queue, ledger, lane, job)
  if redis.call('ZREM', ledger.waiting, job) == 1 then redis.call('ZADD', ledger.running, 0, job) end
end

-- One job less runs: of those that were passed over, the first of each lane is due again. `take` chooses the lane.
local function wake(ledger, queue)
  for _, lane in ipairs(redis.call('ZRANGE', ledger.lanes, 0, -1)) do
    local woken = false
    while not woken do
      local first = redis.call('ZRANGE', ledger.held .. lane, 0, 0, 'WITHSCORES')
      if #first == 0 then break end
      unhold(ledger, lane, first[1])
      local _, _, wake_ups = ledger_by_job(queue, first[1])
      woken = wake_ups and redis.call('ZSCORE', lane, first[1])
      if woken then notify(queue, lane, wake_ups, first[1], tonumber(first[2])) end
    end
  end
end

-- A job that ran waits again.
local function stop(ledger, queue, job)
  if redis.call('ZREM', ledger.running, job) == 1 then
    redis.call('ZADD', ledger.waiting, 0, job)
    wake(ledger, queue)
  end
end

-- A job has ended; idempotent. One that waited and was not held may have been woken by the end of another job: the next
-- one is woken in its place, or it would wait for its check.
local function settle(queue, job)
  local ledger, lane = ledger_by_job(queue, job)
  if not ledger then return end
  redis.call('HDEL', queue.reservations, job)
  local was_held = redis.call('ZSCORE', ledger.held .. lane, job)
  local waited = redis.call('ZREM', ledger.waiting, job) == 1
  unhold(ledger, lane, job)
  unready(queue, ledger, lane, job)
  if redis.call('ZREM', ledger.running, job) == 1 or (waited and not was_held) then wake(ledger, queue) end
end

-- Settle reservations of jobs that are gone: a worker of another version has ended them.
local function sweep(ledger, queue, now)
  if now - tonumber(redis.call('HGET', ledger.terms, 'swept') or 0) < SWEEP_MS then return end
  redis.call('HSET', ledger.terms, 'swept', digits(now))
  for _, jobs in ipairs({ ledger.waiting, ledger.running }) do
    for _, job in ipairs(redis.call('ZRANGE', jobs, 0, -1)) do
      if not redis.call('ZSCORE', queue.active, job) then settle(queue, job) end
    end
  end
end

-- -> {'bound', which, most} if one more job would pass a bound, or nil
local function reached(ledger, queue, now, most_waiting)
  if most_waiting == '' then return nil end
  local most = tonumber(most_waiting)
  if redis.call('ZCARD', ledger.waiting) < most then return nil end
  sweep(ledger, queue, now)
  if redis.call('ZCARD', ledger.waiting) < most then return nil end
  return { 'bound', 'waiting', most }
end

-- The slots of all workers that have reported them; at least those of the caller.
local function all_slots(queue)
  if not queue.all_slots then
    local sum = 0
    for _, worker in ipairs(redis.call('ZRANGE', queue.slots, 0, -1)) do
      sum = sum + tonumber(string.match(worker, '(%d+)$'))
    end
    queue.all_slots = math.max(sum, queue.own_slots)
  end
  return queue.all_slots
end

-- How many jobs of a tenant may run; nil: any number. The term is a number, or a percentage of all slots, rounded up.
local function most_running(ledger, queue)
  local term = redis.call('HGET', ledger.terms, 'running') or ''
  local percent = string.match(term, '^(%d+)%%$')
  if not percent then return tonumber(term) end
  local slots = all_slots(queue)
  return slots > 0 and math.ceil(slots * tonumber(percent) / 100) or nil
end

-- Whether a job may run: it does already, or its tenant has room for one more.
local function may_run(ledger, queue, job, now)
  local most = most_running(ledger, queue)
  if not most or redis.call('ZCARD', ledger.running) < most or redis.call('ZSCORE', ledger.running, job) then
    return true
  end
  sweep(ledger, queue, now)
  return redis.call('ZCARD', ledger.running) < most
end

-- Pass over a job: it stays in its lane, and is woken by the end of another one.
local function hold(queue, ledger, lane, job, due, now)
  unready(queue, ledger, lane, job)
  redis.call('ZADD', ledger.held .. lane, 'NX', digits(due), job)
  redis.call('ZADD', ledger.lanes, 0, lane)
  redis.call('ZADD', lane, 'XX', digits(now + HELD_MS), job)
end

-- Which job of a lane is next, when it was due, and its ledger. A head that is not ready became due by time (a retry, a lost
-- worker's job, one of another version) and is next itself; else it is its tenants' turn, the oldest ready job of each.
local function next_of(queue, lane, head, due, now)
  local ledger = ledger_by_job(queue, head)
  if not ledger or not redis.call('ZSCORE', ledger.ready .. lane, head) then return head, due, ledger end
  local turns = turns_of(queue, lane)
  while true do
    local tenant = redis.call('ZRANGE', turns, 0, 0)[1]
    if not tenant or tenant == ledger.tenant then return head, due, ledger end
    local first = ledger_of(queue.ledgers, tenant)
    local job = redis.call('ZRANGE', first.ready .. lane, 0, 0)[1]
    local job_due = job and tonumber(redis.call('ZSCORE', lane, job) or '')
    if job_due and job_due <= now then return job, job_due, first end
    -- Ended, put off or taken by a function of another version.
    if job then unready(queue, first, lane, job) else redis.call('ZREM', turns, tenant) end
  end
end

-- A tenant has had its turn.
local function had_turn(queue, ledger, lane)
  local turns = turns_of(queue, lane)
  if redis.call('ZSCORE', turns, ledger.tenant) then go_last(turns, ledger.tenant) end
end
