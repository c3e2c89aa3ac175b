-- Check the caller's epoch and owner against the record's. -> nil if it may write, else the refusal.
local function fence(record, epoch, owner)
  if not record[1] then return 'missing' end
  if is_terminal(record[1]) then return 'ended' end
  if record[2] ~= epoch or record[3] ~= owner then return 'fenced' end
  return nil
end

-- One job's part of an append. -> 'ok' | 'ok full' (its tenant keeps more bytes than it may) | 'have k' | 'behind k' | 'fenced' | 'cancelled' | 'ended' | 'missing'
local function append_one(record_key, log, channel, epoch, owner, first, last, bytes)
  local record = redis.call('HMGET', record_key, 'status', 'epoch', 'owner', 'seq', 'bytes')
  local refusal = fence(record, epoch, owner)
  if refusal then return refusal end
  if record[1] == 'cancelling' then return 'cancelled' end
  local seq = tonumber(record[4])
  if tonumber(last) <= seq then return 'have ' .. record[4] end
  if tonumber(first) ~= seq + 1 then return 'behind ' .. record[4] end
  local added = redis.pcall('XADD', log, epoch .. '-' .. last, 'f', bytes)
  if type(added) == 'table' and added.err then return 'busy ' .. added.err end
  publish(channel, bytes)
  if not record[5] then
    redis.call('HSET', record_key, 'seq', last)
    return 'ok'
  end
  local before = tonumber(record[5])
  redis.call('HSET', record_key, 'seq', last, 'bytes', before + #bytes)
  return before % STEP_BYTES + #bytes >= STEP_BYTES and grow(record_key, before + #bytes) and 'ok full' or 'ok'
end

-- KEYS (record, log, channel) per entry; ARGV (epoch, owner, first, last, bytes) per entry -> an answer per entry
local function append(keys, args)
  if #keys > 0 then need_event(keys[1], keys[2], keys[3]) end -- the names of the others differ in their job only
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

-- KEYS record, result; ARGV epoch, owner, checkpoint -> 'ok' | 'ok full' | 'fenced' | 'cancelled' | 'ended' | 'missing'
-- The last checkpoint of a function is where its next execution continues.
local function save_checkpoint(keys, args)
  local record = redis.call('HMGET', keys[1], 'status', 'epoch', 'owner', 'bytes')
  local refusal = fence(record, args[1], args[2])
  if refusal then return refusal end
  if record[1] == 'cancelling' then return 'cancelled' end
  redis.call('SET', keys[2], args[3])
  if not record[4] then return 'ok' end
  redis.call('HSET', keys[1], 'result_bytes', digits(#args[3]))
  return grow(keys[1], tonumber(record[4]) + #args[3]) and 'ok full' or 'ok'
end

-- KEYS record, log, channel, result; ARGV epoch, owner, seq, frame, place (bytes before), part, how far it is then
-- -> 'ok' | 'ok full' | 'have k' | 'behind k' | 'fenced' | 'cancelled' | 'ended' | 'missing'
-- A part of the result is stored atomically with its progress event and the result's length.
local function keep(keys, args)
  need_event(keys[1], keys[2], keys[3])
  need('SETRANGE', keys[4], 0, 'v')
  local record = redis.call('HMGET', keys[1], 'status', 'epoch', 'owner', 'seq', 'bytes', 'result_bytes')
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
  if not record[5] then return 'ok' end
  local log = tonumber(record[5]) + #args[4]
  local result = math.max(tonumber(record[6] or 0), tonumber(args[5]) + #args[6])
  redis.call('HSET', keys[1], 'bytes', digits(log), 'result_bytes', digits(result))
  return grow(keys[1], log + result) and 'ok full' or 'ok'
end

