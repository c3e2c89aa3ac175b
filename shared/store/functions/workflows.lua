---------------------------------------------------------------------------------------------------- job side: workflows
-- A workflow's record is the gate of its first steps: a parent that ends once all steps are recorded. Until then it
-- lives for a short time only, so that the steps of an interrupted submit fail and none of them starts.

-- KEYS workflow [, idempotency]; ARGV tenant, steps JSON, ms until its steps are recorded, base of the tenant's bytes,
-- bytes up to which it may fill them or '', id, fingerprint
-- -> {'created', ms since the Unix epoch} | {'full'}: the tenant keeps too many bytes | {'existing', id} | {'conflict', id}
local function create_workflow(keys, args)
  local used = keys[2] and redis.call('GET', keys[2])
  if used then
    local former, fingerprint = string.match(used, '^(%S+) (%S*)$')
    -- With its own id, this is the same call, sent again after a lost acknowledgement.
    if former ~= args[6] then return { fingerprint == args[7] and 'existing' or 'conflict', former } end
  end
  local bytes = CHAT_BYTES + #args[2]
  if would_pass(args[4], bytes, args[5]) then return { 'full' } end
  local now = now_ms()
  if keys[2] then redis.call('SET', keys[2], args[6] .. ' ' .. args[7], 'PX', args[3]) end
  redis.call('HSET', keys[1], 'status', 'queued', 'tenant', args[1], 'steps', args[2], 'created', digits(now))
  redis.call('PEXPIRE', keys[1], args[3])
  charge(args[4], keys[1], bytes, tonumber(args[3]))
  return { 'created', digits(now) }
end

-- KEYS workflow [, idempotency]; ARGV base of the tenant's bytes, ms for which it is kept -> 1, or 0 if the time for its steps is over
local function open_workflow(keys, args)
  local steps = redis.call('HGET', keys[1], 'steps')
  if not steps then return 0 end
  redis.call('HSET', keys[1], 'status', 'completed')
  for _, key in ipairs(keys) do redis.call('PEXPIRE', key, args[2]) end
  charge(args[1], keys[1], CHAT_BYTES + #steps, tonumber(args[2]))
  return 1
end

-- KEYS workflow [, idempotency]; ARGV base of the tenant's bytes -> 1: its steps are not all recorded, and will not be
local function drop_workflow(keys, args)
  redis.call('DEL', unpack(keys))
  discharge(args[1], keys[1])
  return 1
end

-- KEYS record, request, log, children -> 1 if the job was deleted: it waited, and no caller knows it
local function discard_waiting(keys)
  local status, base = unpack(redis.call('HMGET', keys[1], 'status', 'base_of_bytes'))
  if status ~= 'waiting' then return 0 end
  redis.call('DEL', unpack(keys))
  discharge(base, keys[1])
  return 1
end
