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
-- '1' if its reader is append-only, the dead letter that it is requeued from or '',
-- the most that it is kept after its end in ms or '', fingerprint and Idempotency-Key or '', '1' if it may have been here and
-- was lost, the base of its tenant's bytes, bytes up to which new jobs may fill it or '', bytes that all jobs may or '',
-- the brief request that remains without an answer or '', the id of the HTTP request or '',
-- its webhook or '' [, gateway, viewer's lease ms]
-- -> {'created' | 'exists', the record} | {'bytes', {}} (the tenant keeps too many; nothing was written)
-- With a gateway, the caller is the job's first viewer. The epochs of a job that was lost begin behind those that it
-- had: its readers may return with event ids of a text that is gone.
local function create(keys, args)
  if redis.call('EXISTS', keys[1]) == 1 then return { 'exists', redis.call('HGETALL', keys[1]) } end
  need_event(keys[1], keys[3], keys[4])
  need('SET', keys[2], 'v')
  local data = '{"job":' .. quoted(args[1]) .. ',"lane":' .. quoted(args[5]) .. ',"position":' .. args[11] .. '}'
  local bytes = frame('queued', data, 0, 1)
  local size = JOB_BYTES + #args[7] + #args[10] + #args[23] + #args[24] + #args[25] + #bytes
  if would_pass(args[20], whole_steps(size), args[21]) then return { 'bytes', {} } end
  local now = now_ms()
  local abandon_at = tonumber(args[9]) > 0 and digits(now + tonumber(args[9])) or '0'
  if args[13] ~= '' then redis.call('HSET', keys[1], 'alone', args[13]) end
  if keys[5] then
    local lease = tonumber(args[27])
    show(keys[5], keys[6], args[26], 1, now, lease)
    if args[13] ~= '' then abandon_at = digits(now + lease + tonumber(args[13])) end
  end
  redis.call('HSET', keys[1], 'v', args[2], 'status', 'queued', 'kind', args[3], 'tenant', args[4], 'lane', args[5],
    'model', args[6], 'epoch', 0, 'owner', '', 'seq', 1, 'base', 0, 'attempts', 0, 'created', digits(now),
    'deadline', digits(now + tonumber(args[8])), 'abandon_at', abandon_at, 'metadata', args[10],
    'on_disconnect', args[12], 'on_stream_failure', args[14], 'one_way', args[15], 'base_of_bytes', args[20],
    'bytes', digits(size), 'request_id', args[24])
  if args[16] ~= '' then redis.call('HSET', keys[1], 'requeued_from', args[16]) end
  if args[17] ~= '' then redis.call('HSET', keys[1], 'keep', args[17]) end
  if args[18] ~= '' then redis.call('HSET', keys[1], 'asked_under', args[18]) end
  if args[19] ~= '' then redis.call('HSET', keys[1], 'floor', digits(math.floor((now - EPOCHS_SINCE_MS) / TICK_MS))) end
  if args[23] ~= '' then redis.call('HSET', keys[1], 'brief', args[23], 'spare', #args[7]) end
  if args[25] ~= '' then redis.call('HSET', keys[1], 'webhook', args[25]) end
  redis.call('SET', keys[2], args[7])
  charge(args[20], keys[1], whole_steps(size), tonumber(args[8]) + UNENDED_MS)
  bound_bytes(args[20], args[22])
  redis.call('XADD', keys[3], '0-1', 'f', bytes)
  publish(keys[4], bytes)
  return { 'created', redis.call('HGETALL', keys[1]) }
end

-- How a try that was not the job's last one ended. `cause` is an error as JSON.
local function end_try(record, epoch, cause, now)
  redis.call('HSET', record, 'end:' .. digits(epoch), '{"ended":' .. digits(now) .. ',"error":' .. cause .. '}')
end

-- Read the error code of this epoch's execution; nil if it stored none. `left` is a field of
-- versions that had no `end:` fields: a bare code.
local function code_of_end(record, epoch, left)
  local ended = redis.call('HGET', record, 'end:' .. digits(epoch))
  if ended then return cjson.decode(ended).error.code end
  return left and string.match(left, '^[%l_]+$')
end

-- KEYS record, log, channel
-- ARGV owner, 'run' | 'end', epoch (to end: or ''), model JSON, provider JSON, former owner or '', cause JSON, continues from, seq read or '',
--   progress JSON
-- -> {'ok', epoch, seq, base, attempt, ms to the deadline}
--  | {'missing' | 'ended' | 'waiting' | 'cancelling' | 'expired' | 'stale' | 'moved'}
-- To run, the caller names the epoch that the record had while its claim was good: if another one began since, it is
-- that one's, and the caller was frozen in between. It `continues from` an event id, which `started` has as
-- `resumed_from`; or from '' where no delta needs to be forgotten; or it rolls back to '0-1'. The caller has
-- read the log up to `seq read`: if the log has grown since, it must read it again (`moved`). `cause` says why the former execution
-- came to no end, for one that could not say so itself; `former` is its owner where the caller ended it.
-- `end` takes the next epoch without `started`, to end the job in a worker's place.
local function begin(keys, args)
  need_event(keys[1], keys[2], keys[3])
  local record = redis.call('HMGET', keys[1], 'status', 'epoch', 'seq', 'base', 'attempts', 'created', 'deadline',
    'owner', 'left', 'embedded', 'floor', 'bytes')
  local status = record[1]
  if not status then return { 'missing' } end
  if is_terminal(status) then return { 'ended' } end
  -- A record that another version wrote may lack fields: its job can be ended all the same.
  local old, now = tonumber(record[2]) or 0, now_ms()
  local left, attempts = (tonumber(record[7]) or now) - now, tonumber(record[5]) or 0
  local running = args[2] == 'run'
  if not running and args[3] ~= '' and old ~= tonumber(args[3]) then return { 'stale' } end
  if running then
    if status == 'cancelling' or status == 'waiting' then return { status } end
    -- An owner begins once: this is the same call, sent again after a lost acknowledgement.
    if status == 'running' and record[8] == args[1] then
      return { 'ok', old, tonumber(record[3]), tonumber(record[4]), attempts, digits(math.max(left, 0)) }
    end
    if old ~= tonumber(args[3]) or (args[6] ~= '' and record[8] ~= args[6]) then return { 'stale' } end
    if left <= 0 then return { 'expired' } end
    if args[9] ~= '' and tonumber(args[9]) ~= tonumber(record[3]) then return { 'moved' } end
  end
  local floor, created = tonumber(record[11]) or 0, tonumber(record[6]) or now
  local epoch = math.max(old + 1, floor)
  -- A server that was killed may have forgotten executions: the job's age in ticks is an epoch that none of them had.
  if may_have_forgotten(created) then epoch = math.max(epoch, floor + math.floor((now - created) / TICK_MS)) end
  local base, seq = (tonumber(record[4]) or 0) + (tonumber(record[3]) or 0), 0
  if running then
    attempts = attempts + 1
    local bytes, resumed = '', 'null'
    if old > 0 then
      local code = code_of_end(keys[1], old, record[9])
      if not code then
        code = cjson.decode(args[7]).code
        end_try(keys[1], old, args[7], now)
      end
      redis.call('HDEL', keys[1], 'left')
      local kept = record[10] and cjson.decode(record[10]).model
      if kept and kept == cjson.decode(args[4]) then
        -- The former execution's partial result remains valid: this one continues after it.
        resumed = quoted(redis.call('XREVRANGE', keys[2], '+', '-', 'COUNT', 1)[1][1])
      elseif kept or args[8] == '0-1' then
        -- This model can't continue another model's result.
        redis.call('HDEL', keys[1], 'embedded')
        seq = 1
        bytes = frame('rollback', '{"to":"0-1","reason":' .. quoted(code) .. '}', epoch, seq)
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
    if record[12] then redis.call('HSET', keys[1], 'bytes', digits(tonumber(record[12]) + #bytes)) end
    publish(keys[3], bytes)
  end
  redis.call('HSET', keys[1], 'epoch', digits(epoch), 'owner', args[1], 'seq', seq, 'base', base)
  return { 'ok', epoch, seq, base, attempts, digits(math.max(left, 0)) }
end

