#!lua name=tailrace_1
-- The atomic steps of Tailrace, as Redis Functions. Each is one step of design: it happens whole or not at all.
-- Above: shared/store.py and shared/replay.py call the job side, shared/queue.py the queue side; no function touches
-- both, so that the two may live on different servers. The version is in every function's name: two libraries can't
-- share a name, and in a rolling deploy the old and the new one are loaded side by side.

local VERSION = '_1'
local NUDGE_OVER = 16384 -- a larger live message would not count against a subscriber's output buffer limit
local MAX_BELLS = 1000   -- more rings than free workers can hear are noise
local TICK_MS = 50       -- a server takes longer than this to start again
local CIRCUITS_MS = 86400000 -- circuits that nobody has changed for a day say nothing any more
local MAX_OVER = 100     -- dead letters that are too many are let go so many at a time
local HIDDEN_MS = 60000  -- how long a job is kept after its end whose owner deleted it while it ran: others may read on

-- shared/lifecycle.py, TRANSITIONS: a contract test compares the two, pair by pair.
local ENDS_FROM = {
  completed = { running = true },
  failed = { queued = true, running = true },
  expired = { queued = true, running = true },
  cancelled = { cancelling = true },
}

local function is_terminal(status) return ENDS_FROM[status] ~= nil end

-- When a function was first called since this server started. What happened to a job that is older may be forgotten.
local awake_since

local function now_ms()
  local time = redis.call('TIME')
  local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
  awake_since = awake_since or now
  return now
end

-- Lua writes large numbers as 1.7e+12; Redis wants digits.
local function digits(number) return string.format('%.0f', number) end

local function frame(event, data, epoch, seq)
  return 'event: ' .. event .. '\ndata: ' .. data .. '\nid: ' .. digits(epoch) .. '-' .. digits(seq) .. '\n\n'
end

local function publish(channel, bytes)
  if #bytes > NUDGE_OVER then bytes = '' end
  redis.call('PUBLISH', channel, bytes)
end

-- JSON text of a string that our own side wrote (ids and lane names): nothing in it needs escaping.
local function quoted(text) return '"' .. text .. '"' end

---------------------------------------------------------------------------------------------------- queue side

-- KEYS lane, active, arq job, tenant's jobs [, idempotency]
-- ARGV job, fingerprint, idempotency ttl ms, max depth, arq message, due in ms, look in ms, oldest id that is listed
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
  return 1
end

------------------------------------------------------------------------------------------------------ job side

-- A gateway has so many readers of a job, and says so again before the lease is over: a viewer is believed no longer.
local function show(viewers, readers, gateway, count, now, lease)
  redis.call('ZADD', viewers, digits(now + lease), gateway)
  redis.call('HSET', readers, gateway, count)
  redis.call('PEXPIRE', viewers, lease)
  redis.call('PEXPIRE', readers, lease)
end

-- KEYS record, request, log, channel [, viewers, readers]
-- ARGV job, version, kind, tenant, lane, model, request, timeout ms, abandoned without a first viewer in ms (0 never),
-- metadata, position, on disconnect, abandoned without the last viewer in ms or '', on stream failure or '',
-- '1' if its reader can't take back what it was shown, the dead letter that it is requeued from or ''
-- [, gateway, viewer's lease ms]
-- -> {'created' | 'exists', the record}
-- With a gateway, whoever asked is the job's first viewer.
local function create(keys, args)
  if redis.call('EXISTS', keys[1]) == 1 then return { 'exists', redis.call('HGETALL', keys[1]) } end
  local now = now_ms()
  local abandon_at = tonumber(args[9]) > 0 and digits(now + tonumber(args[9])) or '0'
  if args[13] ~= '' then redis.call('HSET', keys[1], 'alone', args[13]) end
  if keys[5] then
    local lease = tonumber(args[18])
    show(keys[5], keys[6], args[17], 1, now, lease)
    if args[13] ~= '' then abandon_at = digits(now + lease + tonumber(args[13])) end
  end
  redis.call('HSET', keys[1], 'v', args[2], 'status', 'queued', 'kind', args[3], 'tenant', args[4], 'lane', args[5],
    'model', args[6], 'epoch', 0, 'owner', '', 'seq', 1, 'base', 0, 'attempts', 0, 'created', digits(now),
    'deadline', digits(now + tonumber(args[8])), 'abandon_at', abandon_at, 'metadata', args[10],
    'on_disconnect', args[12], 'on_stream_failure', args[14], 'one_way', args[15])
  if args[16] ~= '' then redis.call('HSET', keys[1], 'requeued_from', args[16]) end
  redis.call('SET', keys[2], args[7])
  local data = '{"job":' .. quoted(args[1]) .. ',"lane":' .. quoted(args[5]) .. ',"position":' .. args[11] .. '}'
  local bytes = frame('queued', data, 0, 1)
  redis.call('XADD', keys[3], '0-1', 'f', bytes)
  publish(keys[4], bytes)
  return { 'created', redis.call('HGETALL', keys[1]) }
end

-- How a try that was not the job's last one ended. `cause` is an error as JSON.
local function end_try(record, epoch, cause, now)
  redis.call('HSET', record, 'end:' .. digits(epoch), '{"ended":' .. digits(now) .. ',"error":' .. cause .. '}')
end

-- KEYS record, log, channel
-- ARGV owner, 'run' | 'end', epoch (to end: or ''), model JSON, provider JSON, former owner or '', cause JSON, goes on from, seq read or '',
--   progress JSON
-- -> {'ok', epoch, seq, base, attempt, ms to the deadline}
--  | {'missing' | 'ended' | 'cancelling' | 'expired' | 'stale' | 'moved'}
-- To run, the caller names the epoch that the record had while its claim was good: if another one began since, it is
-- that one's, and the caller was frozen in between. It `goes on from` an event id, which `started` tells as
-- `resumed_from`; or from '' where no delta needs to be forgotten; or it rolls back to '0-1'. Who has read the log to
-- know that says how far: if it has `moved` on since, he is to read it again. `cause` says why the former execution
-- came to no end, for one that could not say so itself; `former` is its owner where the caller ended it.
-- `end` takes the next epoch without `started`, for somebody who ends the job in a worker's place.
local function begin(keys, args)
  local record = redis.call('HMGET', keys[1], 'status', 'epoch', 'seq', 'base', 'attempts', 'created', 'deadline',
    'owner', 'left', 'embedded')
  local status = record[1]
  if not status then return { 'missing' } end
  if is_terminal(status) then return { 'ended' } end
  local old, now = tonumber(record[2]), now_ms()
  local left, attempts = tonumber(record[7]) - now, tonumber(record[5])
  local running = args[2] == 'run'
  if not running and args[3] ~= '' and old ~= tonumber(args[3]) then return { 'stale' } end
  if running then
    if status == 'cancelling' then return { 'cancelling' } end
    -- An owner begins once: this is the same call, sent again after a lost acknowledgement.
    if status == 'running' and record[8] == args[1] then
      return { 'ok', old, tonumber(record[3]), tonumber(record[4]), attempts, digits(math.max(left, 0)) }
    end
    if old ~= tonumber(args[3]) or (args[6] ~= '' and record[8] ~= args[6]) then return { 'stale' } end
    if left <= 0 then return { 'expired' } end
    if args[9] ~= '' and tonumber(args[9]) ~= tonumber(record[3]) then return { 'moved' } end
  end
  local epoch, created = old + 1, tonumber(record[6])
  -- A server that was killed may have forgotten executions: the job's age in ticks is an epoch that none of them had.
  if created < awake_since then epoch = math.max(epoch, math.floor((now - created) / TICK_MS)) end
  local base, seq = tonumber(record[4]) + tonumber(record[3]), 0
  if running then
    attempts = attempts + 1
    local bytes, resumed = '', 'null'
    if old > 0 then
      local cause = record[9] or args[7]
      if not record[9] then end_try(keys[1], old, cause, now) end
      redis.call('HDEL', keys[1], 'left')
      local kept = record[10] and cjson.decode(record[10]).model
      if kept and kept == cjson.decode(args[4]) then
        -- What the former execution kept counts: it is not taken back, and this one goes on behind it.
        resumed = quoted(redis.call('XREVRANGE', keys[2], '+', '-', 'COUNT', 1)[1][1])
      elseif kept or args[8] == '0-1' then
        -- What another model has made is of no use to this one.
        redis.call('HDEL', keys[1], 'embedded')
        seq = 1
        bytes = frame('rollback', '{"to":"0-1","reason":' .. quoted(cjson.decode(cause).code) .. '}', epoch, seq)
      elseif args[8] ~= '' then
        resumed = quoted(args[8])
      end
    end
    seq = seq + 1
    local try = '{"attempt":' .. attempts .. ',"model":' .. args[4] .. ',"provider":' .. args[5] .. ',"resumed_from":'
      .. resumed
    bytes = bytes .. frame('started', try .. '}', epoch, seq)
    redis.call('XADD', keys[2], digits(epoch) .. '-' .. seq, 'f', bytes)
    redis.call('HSETNX', keys[1], 'started', digits(now))
    redis.call('HSET', keys[1], 'status', 'running', 'attempts', attempts, 'progress', args[10],
      'try:' .. digits(epoch), try .. ',"started":' .. digits(now) .. '}')
    publish(keys[3], bytes)
  end
  redis.call('HSET', keys[1], 'epoch', digits(epoch), 'owner', args[1], 'seq', seq, 'base', base)
  return { 'ok', epoch, seq, base, attempts, digits(math.max(left, 0)) }
end

-- Who may write: record's status, epoch and owner against the caller's. -> nil if he may, else the refusal.
local function fence(record, epoch, owner)
  if not record[1] then return 'missing' end
  if is_terminal(record[1]) then return 'ended' end
  if record[2] ~= epoch or record[3] ~= owner then return 'fenced' end
  return nil
end

-- One job's part of an append. -> 'ok' | 'have k' | 'behind k' | 'fenced' | 'cancelled' | 'ended' | 'missing'
local function append_one(record_key, log, channel, epoch, owner, first, last, bytes)
  local record = redis.call('HMGET', record_key, 'status', 'epoch', 'owner', 'seq')
  local refusal = fence(record, epoch, owner)
  if refusal then return refusal end
  if record[1] == 'cancelling' then return 'cancelled' end
  local seq = tonumber(record[4])
  if tonumber(last) <= seq then return 'have ' .. record[4] end
  if tonumber(first) ~= seq + 1 then return 'behind ' .. record[4] end
  local added = redis.pcall('XADD', log, epoch .. '-' .. last, 'f', bytes)
  if type(added) == 'table' and added.err then return 'busy ' .. added.err end
  redis.call('HSET', record_key, 'seq', last)
  publish(channel, bytes)
  return 'ok'
end

-- KEYS (record, log, channel) per entry; ARGV (epoch, owner, first, last, bytes) per entry -> an answer per entry
local function append(keys, args)
  local answers = {}
  for i = 0, #keys / 3 - 1 do
    local k, a = 3 * i, 5 * i
    local ok, answer = pcall(append_one, keys[k + 1], keys[k + 2], keys[k + 3],
      args[a + 1], args[a + 2], args[a + 3], args[a + 4], args[a + 5])
    if not ok then
      answer = 'busy ' .. (type(answer) == 'table' and answer.err or tostring(answer))
    end
    answers[i + 1] = answer
  end
  return answers
end

-- KEYS record, log, channel, result; ARGV epoch, owner, seq, frame, place (bytes before), part, how far it is then
-- -> 'ok' | 'have k' | 'behind k' | 'fenced' | 'cancelled' | 'ended' | 'missing'
-- A part of the result, and the event that tells of it. The record says how far the result goes: what Redis forgot of
-- one, it forgot of all.
local function keep(keys, args)
  local record = redis.call('HMGET', keys[1], 'status', 'epoch', 'owner', 'seq')
  local refusal = fence(record, args[1], args[2])
  if refusal then return refusal end
  if record[1] == 'cancelling' then return 'cancelled' end
  local seq = tonumber(record[4])
  if tonumber(args[3]) <= seq then return 'have ' .. record[4] end
  if tonumber(args[3]) ~= seq + 1 then return 'behind ' .. record[4] end
  redis.call('SETRANGE', keys[4], args[5], args[6])
  redis.call('XADD', keys[2], args[1] .. '-' .. args[3], 'f', args[4])
  redis.call('HSET', keys[1], 'seq', args[3], 'embedded', args[7])
  publish(keys[3], args[4])
  return 'ok'
end

-- Ends the job's keys together: a reader never finds a record without its log. The record is the first of them.
local function retain(keys, retention)
  local hidden = redis.call('HEXISTS', keys[1], 'hidden') == 1
  local at = digits(now_ms() + (hidden and math.min(HIDDEN_MS, tonumber(retention)) or tonumber(retention)))
  for _, key in ipairs(keys) do redis.call('PEXPIREAT', key, at) end
end

-- KEYS record, log, channel, request, result; ARGV epoch, owner, seq, frame, status, outcome, retention ms [, result]
-- -> 'ok' | 'have' | 'behind k' | 'fenced' | 'cancelled' | 'ended' | 'refused' | 'missing'
local function finish(keys, args)
  local record = redis.call('HMGET', keys[1], 'status', 'epoch', 'owner', 'seq')
  local refusal = fence(record, args[1], args[2])
  if refusal == 'ended' and record[2] == args[1] and record[3] == args[2] and record[4] == args[3] then return 'have' end
  if refusal then return refusal end
  if record[1] == 'cancelling' and args[5] ~= 'cancelled' then return 'cancelled' end
  if not (ENDS_FROM[args[5]] and ENDS_FROM[args[5]][record[1]]) then return 'refused' end
  if tonumber(args[3]) ~= tonumber(record[4]) + 1 then return 'behind ' .. record[4] end
  redis.call('XADD', keys[2], args[1] .. '-' .. args[3], 'f', args[4])
  redis.call('HSET', keys[1], 'status', args[5], 'seq', args[3], 'outcome', args[6], 'ended', digits(now_ms()))
  if args[8] then redis.call('SET', keys[5], args[8]) end
  publish(keys[3], args[4])
  retain({ keys[1], keys[2], keys[4], keys[5] }, args[7])
  return 'ok'
end

-- KEYS record, log, channel, request, result
-- ARGV job, control channel, code, outcome (the terminal data of a job that never began, without its count), retention ms
-- -> 'missing' | 'ended' | 'cancelled' (ended at once) | 'cancelling' (its worker was told)
local function cancel(keys, args)
  local record = redis.call('HMGET', keys[1], 'status', 'epoch', 'seq', 'base')
  local status = record[1]
  if not status then return 'missing' end
  if is_terminal(status) then return 'ended' end
  if status == 'queued' then -- whoever took it over in order to end it finds it ended
    local seq = tonumber(record[3]) + 1
    local data = string.gsub(args[4], '}$', ',"events":' .. tonumber(record[4]) + seq .. '}')
    local bytes = frame('cancelled', data, record[2], seq)
    redis.call('XADD', keys[2], record[2] .. '-' .. seq, 'f', bytes)
    redis.call('HSET', keys[1], 'status', 'cancelled', 'owner', '', 'seq', seq, 'outcome', data,
      'ended', digits(now_ms()))
    publish(keys[3], bytes)
    retain({ keys[1], keys[2], keys[4], keys[5] }, args[5])
    return 'cancelled'
  end
  if status ~= 'cancelling' then
    redis.call('HSET', keys[1], 'status', 'cancelling', 'cancel_code', args[3], 'cancel_at', digits(now_ms()))
  end
  -- Told again on every call: a control message can be lost.
  redis.call('PUBLISH', args[2], args[1])
  return 'cancelling'
end

-- KEYS record, log, request, result -> 'missing' | 'deleted' | 'hidden' (it has not ended: finish needs its record)
local function forget(keys)
  local status = redis.call('HGET', keys[1], 'status')
  if not status then return 'missing' end
  if not is_terminal(status) then
    redis.call('HSET', keys[1], 'hidden', '1')
    return 'hidden'
  end
  redis.call('DEL', keys[1], keys[2], keys[3], keys[4])
  return 'deleted'
end

-- KEYS record per job; ARGV (epoch, owner) per job -> 'ok' | 'cancelled' | 'fenced' | 'ended' | 'missing' per job
local function beat(keys, args)
  local answers = {}
  for i, key in ipairs(keys) do
    local record = redis.call('HMGET', key, 'status', 'epoch', 'owner')
    local refusal = fence(record, args[2 * i - 1], args[2 * i])
    answers[i] = refusal or (record[1] == 'cancelling' and 'cancelled') or 'ok'
  end
  return answers
end

-- KEYS record; ARGV epoch, owner, cause JSON, attempts that it has cost, progress JSON or '' for as it was
-- -> 1 if the execution was still the caller's: it comes to no end, and another one follows.
local function leave(keys, args)
  local record = redis.call('HMGET', keys[1], 'status', 'epoch', 'owner', 'attempts')
  if fence(record, args[1], args[2]) then return 0 end
  redis.call('HSET', keys[1], 'owner', '', 'attempts', tonumber(record[4]) - 1 + tonumber(args[4]), 'left', args[3])
  if args[5] ~= '' then redis.call('HSET', keys[1], 'progress', args[5]) end
  end_try(keys[1], tonumber(args[1]), args[3], now_ms())
  return 1
end

-- One job's part of a view. -> ms until the job is abandoned unless somebody comes, or -1 if it won't be
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
  local seen_until = nil -- until when somebody has been seen, if this changes anything
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
-- -> ms until it is abandoned unless somebody comes or shows himself, or -1 if it won't be, per job
-- A gateway has so many readers of each job. Where it has none any more, `stay` is how long whom it let go is waited for
-- as if he were there. Said twice, it changes nothing.
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

-- KEYS and ARGV as for cancel -> 'watched' (somebody came, or has shown himself, since it was looked at) | as cancel
local function abandon(keys, args)
  local at = tonumber(redis.call('HGET', keys[1], 'abandon_at') or 0)
  if at == 0 or at > now_ms() then return 'watched' end
  return cancel(keys, args)
end

-- Whether the log holds the event of this id, perhaps inside an entry, whose id is that of its last event.
local function holds(log, id)
  local entry = redis.call('XRANGE', log, id, '+', 'COUNT', 1)[1]
  if not entry or entry[1] == id then return entry ~= nil end
  local first_epoch, first_seq = string.match(entry[2][2], '\nid: (%d+)%-(%d+)')
  local epoch, seq = string.match(id, '^(%d+)%-(%d+)$')
  return epoch == first_epoch and tonumber(seq) >= tonumber(first_seq)
end

-- KEYS record, log; ARGV cursor, max bytes
-- -> {'missing'} | {status, last id, first id of the log, 1 if it holds the cursor, 1 if there is more, entry ...}
-- Every entry after the cursor, until the bytes are reached: at least one, so that a reader always gets on.
local function read(keys, args)
  local record = redis.call('HMGET', keys[1], 'status', 'epoch', 'seq')
  if not record[1] then return { 'missing' } end
  local first = redis.call('XRANGE', keys[2], '-', '+', 'COUNT', 1)[1]
  local earliest = first and string.match(first[2][2], '\nid: (%d+%-%d+)') or ''
  local last = redis.call('XREVRANGE', keys[2], '+', '-', 'COUNT', 1)[1]
  local reply = { record[1], last and last[1] or '', earliest, holds(keys[2], args[1]) and 1 or 0, 0 }
  local room, from = tonumber(args[2]), args[1]
  while true do
    local page = redis.call('XRANGE', keys[2], '(' .. from, '+', 'COUNT', 64)
    for _, entry in ipairs(page) do
      if room <= 0 then
        reply[5] = 1
        return reply
      end
      reply[#reply + 1] = entry[2][2]
      room = room - #entry[2][2]
      from = entry[1]
    end
    if #page < 64 then return reply end
  end
end

------------------------------------------------------------------------------------------------- dead letters
-- The indexes `all` and `open` hold the same ids by the time of their end, `open` without those that were requeued. What
-- a dead letter says is in its job's record.

-- KEYS all, open; ARGV job, ended ms, retention ms, most -> {1 if it was not there, or 0, then ids that are too many ...}
-- The oldest are too many. They stay until their caller has let their jobs go, some of them at a time.
local function bury(keys, args)
  local oldest = now_ms() - tonumber(args[3])
  local added = tonumber(args[2]) > oldest and redis.call('ZADD', keys[1], 'NX', args[2], args[1]) or 0
  if added == 1 then redis.call('ZADD', keys[2], args[2], args[1]) end
  for _, key in ipairs(keys) do redis.call('ZREMRANGEBYSCORE', key, '-inf', digits(oldest)) end
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

------------------------------------------------------------------------------------------------ conversations
-- `next` is a job on its way in, `job` the one that answers, unless it was stopped, `last` the one whose request and
-- answer are the conversation so far, `turns` what its request consists of.

-- KEYS conversation; ARGV job, the last job that the caller has read or '*' for any, ttl ms
-- -> {1, the job that was on its way in until now, or ''} | {0, ''} (there is another last job)
local function chat_begin(keys, args)
  local chat = redis.call('HMGET', keys[1], 'last', 'next')
  if args[2] ~= '*' and args[2] ~= (chat[1] or '') then return { 0, '' } end
  redis.call('HSET', keys[1], 'next', args[1])
  redis.call('PEXPIRE', keys[1], args[3])
  return { 1, chat[2] or '' }
end

-- KEYS conversation; ARGV job, turns, ttl ms
-- -> {1, the job that answered until now, or ''} | {0, ''} (stopped, or another one has begun since)
local function chat_commit(keys, args)
  local chat = redis.call('HMGET', keys[1], 'next', 'job')
  if chat[1] ~= args[1] then return { 0, '' } end
  redis.call('HDEL', keys[1], 'next')
  redis.call('HSET', keys[1], 'job', args[1], 'last', args[1], 'turns', args[2])
  redis.call('PEXPIRE', keys[1], args[3])
  return { 1, chat[2] or '' }
end

-- KEYS conversation; ARGV job that is meant, or '' for any -> jobs that answered or were on their way in, and do no more
local function chat_stop(keys, args)
  local chat, stopped = redis.call('HMGET', keys[1], 'next', 'job'), {}
  for i, field in ipairs({ 'next', 'job' }) do
    if chat[i] and (args[1] == '' or args[1] == chat[i]) then
      stopped[#stopped + 1] = chat[i]
      redis.call('HDEL', keys[1], field)
    end
  end
  return stopped
end

---------------------------------------------------------------------------------------------------- providers

-- KEYS circuits; ARGV (name, value as it was seen, 1 to change it, new value or '' to forget it) per circuit
-- -> {now, then per circuit: 1 if it was changed, its value after that or ''}
local function exchange(keys, args)
  local answers = { digits(now_ms()) }
  for i = 1, #args, 4 do
    local value, changed = redis.call('HGET', keys[1], args[i]) or '', 0
    if args[i + 2] == '1' and value == args[i + 1] then
      value, changed = args[i + 3], 1
      if value == '' then
        redis.call('HDEL', keys[1], args[i])
      else
        redis.call('HSET', keys[1], args[i], value)
        redis.call('PEXPIRE', keys[1], CIRCUITS_MS)
      end
    end
    answers[#answers + 1] = changed
    answers[#answers + 1] = value
  end
  return answers
end

-- KEYS holders, waiters (score: when it asked first), interest (score: when it loses its turn)
-- ARGV holder, job, limit, lease ms, turn ms or '' for who does not wait -> 1 if it has a place
local function acquire(keys, args)
  local now = now_ms()
  redis.call('ZREMRANGEBYSCORE', keys[1], '-inf', digits(now))
  for _, gone in ipairs(redis.call('ZRANGE', keys[3], '-inf', digits(now), 'BYSCORE')) do
    redis.call('ZREM', keys[2], gone)
    redis.call('ZREM', keys[3], gone)
  end
  local free = tonumber(args[3]) - redis.call('ZCARD', keys[1])
  local turn = redis.call('ZRANK', keys[2], args[2]) or redis.call('ZCARD', keys[2])
  if redis.call('ZSCORE', keys[1], args[1]) or turn < free then
    redis.call('ZADD', keys[1], digits(now + tonumber(args[4])), args[1])
    redis.call('ZREM', keys[2], args[2])
    redis.call('ZREM', keys[3], args[2])
    return 1
  end
  if args[5] == '' then return 0 end
  local last = redis.call('ZREVRANGE', keys[2], 0, 0, 'WITHSCORES')[2]
  redis.call('ZADD', keys[2], 'NX', digits(math.max(now, last and tonumber(last) + 1 or 0)), args[2])
  redis.call('ZADD', keys[3], digits(now + tonumber(args[5])), args[2])
  return 0
end

-- KEYS holders, waiters; ARGV holder, control channel, order -> 1
local function release_place(keys, args)
  redis.call('ZREM', keys[1], args[1])
  if redis.call('ZCARD', keys[2]) > 0 then redis.call('PUBLISH', args[2], args[3]) end
  return 1
end

-- KEYS holders per place; ARGV lease ms, then a holder per place. A place that somebody else may have now stays lost.
local function renew_places(keys, args)
  local until_ms = digits(now_ms() + tonumber(args[1]))
  for i, key in ipairs(keys) do redis.call('ZADD', key, 'XX', until_ms, args[i + 1]) end
  return 1
end

------------------------------------------------------------------------------------------------- registration

local function register(name, callback, flags)
  redis.register_function { function_name = 'tailrace_' .. name .. VERSION, callback = callback, flags = flags or {} }
end

-- What must work for a job to end carries `allow-oom`. `append` and `create` do not: refused for memory is
-- back-pressure there, and a server that is full takes no new jobs.
register('admit', admit)
register('free', free, { 'allow-oom' })
register('release', release, { 'allow-oom' })
register('take', take, { 'allow-oom' })
register('renew', renew, { 'allow-oom' })
register('give_back', give_back, { 'allow-oom' })
register('done', done, { 'allow-oom' })
register('look', look, { 'allow-oom' })
register('due', due, { 'allow-oom' })
register('restore', restore, { 'allow-oom' })
register('backlog', backlog, { 'no-writes' })
register('tell', tell, { 'allow-oom' })
register('create', create)
register('begin', begin, { 'allow-oom' })
register('append', append)
register('keep', keep)
register('finish', finish, { 'allow-oom' })
register('cancel', cancel, { 'allow-oom' })
register('forget', forget, { 'allow-oom' })
register('beat', beat, { 'allow-oom' })
register('leave', leave, { 'allow-oom' })
register('view', view, { 'allow-oom' })
register('count_viewers', count_viewers, { 'no-writes' })
register('abandon', abandon, { 'allow-oom' })
register('read', read, { 'no-writes' })
register('exchange', exchange, { 'allow-oom' })
register('acquire', acquire, { 'allow-oom' })
register('release_place', release_place, { 'allow-oom' })
register('renew_places', renew_places, { 'allow-oom' })
register('bury', bury, { 'allow-oom' })
register('letters', letters, { 'no-writes' })
register('open_letters', open_letters, { 'no-writes' })
register('requeued', requeued, { 'allow-oom' })
register('dismiss', dismiss, { 'allow-oom' })
register('chat_begin', chat_begin)
register('chat_commit', chat_commit, { 'allow-oom' })
register('chat_stop', chat_stop, { 'allow-oom' })
