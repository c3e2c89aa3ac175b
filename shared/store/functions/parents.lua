------------------------------------------------------------------------------------------------ parents and children
-- A job that comes after others is `waiting` until these, its parents, have ended. Its record has their names and ids
-- (`after`) and the ids of those whose end it has not seen (`awaited`); each parent has a list of its children.
-- No wake-up is lost: a parent's end is written in one step, and its completion reads the list of children afterwards. A
-- child that registers before that end is in the list; one that registers later is answered with the end.
-- The jobs' side comes first, then the queue's.

-- KEYS as for create; ARGV after JSON, 'fail' | 'run', parents' ids by spaces, timeout ms from its release, then as for create
-- -> as create. The time-out that `create` gets bounds the time until the job's end.
local function create_waiting(keys, args)
  local after, on_parent_failure, awaited, timeout = args[1], args[2], args[3], args[4]
  local own = { unpack(args, 5) }
  local answer = create(keys, own)
  if answer[1] ~= 'created' then return answer end
  local bytes = tonumber(redis.call('HGET', keys[1], 'bytes')) + #after + #awaited
  redis.call('HSET', keys[1], 'status', 'waiting', 'after', after, 'on_parent_failure', on_parent_failure,
    'awaited', awaited, 'timeout', timeout, 'bytes', digits(bytes))
  charge(own[20], keys[1], whole_steps(bytes), tonumber(own[8]) + UNENDED_MS)
  return { 'created', redis.call('HGETALL', keys[1]) }
end

-- KEYS (record, children) per parent; ARGV child, tenant, ms for which the list is kept
-- -> the status of each parent, or 'missing'. The child is in the list of each that has not ended.
local function register_child(keys, args)
  local answers = {}
  for i = 1, #keys / 2 do
    local record, children = keys[2 * i - 1], keys[2 * i]
    local status, tenant = unpack(redis.call('HMGET', record, 'status', 'tenant'))
    if not status or tenant ~= args[2] then
      answers[i] = 'missing'
    else
      answers[i] = status
      if not is_terminal(status) then
        redis.call('ZADD', children, 0, args[1])
        redis.call('PEXPIRE', children, args[3])
        redis.call('HSET', record, 'children', '1')
      end
    end
  end
  return answers
end

-- The name that a child has for this parent.
local function name_of_parent(after, parent) return string.match(after, '"([%w_-]+)":"' .. parent .. '"') or parent end

-- One parent of a child has ended. -> {status, lane, tenant, 1 if this call changed the status} | {'missing'}
local function settle_child(keys, parent, ended, outcome, retention)
  local record = redis.call('HMGET', keys[1], 'status', 'lane', 'tenant', 'awaited', 'after', 'on_parent_failure',
    'timeout', 'deadline')
  local status, lane, tenant, awaited = record[1], record[2], record[3], record[4] or ''
  if not status then return { 'missing' } end
  local first, last = string.find(awaited, parent, 1, true)
  if status ~= 'waiting' or not first then return { status, lane, tenant, 0 } end
  -- Without its workflow a step never starts, whatever it does without its other parents.
  if ended ~= 'completed' and (record[6] == 'fail' or string.sub(parent, 1, 3) == 'wf_') then
    end_unbegun(keys, 'failed', string.gsub(outcome, '@NAME@', name_of_parent(record[5], parent)), retention)
    return { 'failed', lane, tenant, 1 }
  end
  awaited = string.gsub(string.sub(awaited, 1, first - 1) .. string.sub(awaited, last + 2), ' $', '')
  redis.call('HSET', keys[1], 'awaited', awaited)
  if awaited ~= '' then return { 'waiting', lane, tenant, 0 } end
  local now = now_ms()
  redis.call('HSET', keys[1], 'status', 'queued', 'released', digits(now),
    'deadline', digits(math.min(tonumber(record[8]), now + tonumber(record[7]))))
  return { 'queued', lane, tenant, 1 }
end

-- KEYS (record, log, channel, request, result) per child
-- ARGV parent, 'completed' | 'failed' | 'gone', outcome of a child that fails with it, retention ms
-- -> {status, lane, tenant, 1 if it is new} or {'missing'} per child. Idempotent by parent: a child whose last parent it was is queued,
-- and the caller has to put it into its lane.
local function settle_children(keys, args)
  local answers = {}
  for i = 0, #keys / 5 - 1 do
    local child = { unpack(keys, 5 * i + 1, 5 * i + 5) }
    need_event(child[1], child[2], child[3])
    answers[i + 1] = settle_child(child, args[1], args[2], args[3], args[4])
  end
  return answers
end

-- KEYS lane, active, arq job, wake_ups, claim, arq retry, reservations
-- ARGV job, arq message, check in ms, held until (ms) or '', owner of the claim or '', tenant, ledgers
-- -> 1, or 0 if another worker has claimed the job, and finds that it waits
-- A job that waits for its parents is in no lane. The reaper checks it, as `restore` says.
local function park(keys, args)
  local lane, active, message, wake_ups, claim, retry, reservations = unpack(keys)
  local job, ledger = args[1], ledger_of(args[7], args[6])
  local queue, check_at = { reservations = reservations, ledgers = args[7] }, digits(now_ms() + tonumber(args[3]))
  local holder = redis.call('GET', claim)
  if holder and holder ~= args[5] then return 0 end
  if holder then redis.call('DEL', claim, retry) end
  if redis.call('ZSCORE', active, job) == args[4] then
    redis.call('ZADD', active, check_at, job)
  else
    redis.call('ZADD', active, 'LT', check_at, job)
  end
  redis.call('SET', message, args[2])
  reserve(ledger, reservations, job, args[6], lane, wake_ups)
  redis.call('ZREM', lane, job)
  unhold(ledger, lane, job)
  unready(queue, ledger, lane, job)
  stop(ledger, queue, job)
  return 1
end

