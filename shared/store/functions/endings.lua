local UNANSWERED = { cancelled = true, expired = true }

-- Ends the job's keys together: a reader never finds a record without its log. The record is the first of them.
-- -> for how long (ms) they are kept
local function retain(keys, retention)
  local record, kept = redis.call('HMGET', keys[1], 'hidden', 'keep'), tonumber(retention)
  if record[1] then kept = math.min(HIDDEN_MS, kept) end
  if record[2] then kept = math.min(tonumber(record[2]), kept) end
  local ms = digits(kept)
  for _, key in ipairs(keys) do redis.call('PEXPIRE', key, ms) end
  return kept
end

-- KEYS record, log, channel, request, result; ARGV epoch, owner, seq, frame, status, outcome, retention ms [, result]
-- -> 'ok' | 'have' | 'behind k' | 'fenced' | 'cancelled' | 'ended' | 'refused' | 'missing'; 'ok children' and
-- 'have children' if jobs that come after it have registered
local function finish_one(keys, args)
  local record = redis.call('HMGET', keys[1], 'status', 'epoch', 'owner', 'seq', 'children')
  local refusal, children = fence(record, args[1], args[2]), record[5] and ' children' or ''
  if refusal == 'ended' and record[2] == args[1] and record[3] == args[2] and record[4] == args[3] then
    return 'have' .. children
  end
  if refusal then return refusal end
  if record[1] == 'cancelling' and args[5] ~= 'cancelled' then return 'cancelled' end
  if not (ENDS_FROM[args[5]] and ENDS_FROM[args[5]][record[1]]) then return 'refused' end
  if tonumber(args[3]) ~= tonumber(record[4]) + 1 then return 'behind ' .. record[4] end
  redis.call('XADD', keys[2], args[1] .. '-' .. args[3], 'f', args[4])
  redis.call('HSET', keys[1], 'status', args[5], 'seq', args[3], 'outcome', args[6], 'ended', digits(now_ms()))
  if args[8] == '' then
    redis.call('DEL', keys[5])
  elseif args[8] then
    redis.call('SET', keys[5], args[8])
  end
  publish(keys[3], args[4])
  local spared = shorten_request(keys[1], keys[4], UNANSWERED[args[5]])
  local kept = retain({ keys[1], keys[2], keys[4], keys[5] }, args[7])
  settle_bytes(keys[1], #args[4] + #args[6] - spared, args[8] and #args[8], kept)
  return 'ok' .. children
end

-- A job that no worker has begun ends: `data` is its terminal event's, without the count.
local function end_unbegun(keys, status, data, retention)
  local epoch, last, base = unpack(redis.call('HMGET', keys[1], 'epoch', 'seq', 'base'))
  local seq = tonumber(last) + 1
  local outcome = string.gsub(data, '}$', ',"events":' .. tonumber(base) + seq .. '}')
  local bytes = frame(status, outcome, epoch, seq)
  redis.call('XADD', keys[2], epoch .. '-' .. seq, 'f', bytes)
  redis.call('HSET', keys[1], 'status', status, 'owner', '', 'seq', seq, 'outcome', outcome,
    'ended', digits(now_ms()), 'uncompleted', '1')
  publish(keys[3], bytes)
  local spared = shorten_request(keys[1], keys[4], true)
  local kept = retain({ keys[1], keys[2], keys[4], keys[5] }, retention)
  settle_bytes(keys[1], #bytes + #outcome - spared, nil, kept)
end

local function finish(keys, args)
  need_event(keys[1], keys[2], keys[3])
  need('PEXPIRE', keys[1], 1)
  return finish_one(keys, args)
end

-- KEYS as for finish; ARGV first, last, frames, then as for finish -> as finish
-- The execution's last frames are logged and published as an entry of their own, as `append` does, then the terminal event.
local function finish_with_frames(keys, args)
  need_event(keys[1], keys[2], keys[3])
  need('PEXPIRE', keys[1], 1)
  local first, last, frames = table.remove(args, 1), table.remove(args, 1), table.remove(args, 1)
  local answer = append_one(keys[1], keys[2], keys[3], args[1], args[2], first, last, frames)
  local word = string.match(answer, '^%l+')
  if word == 'busy' then error(redis.error_reply(string.sub(answer, 6))) end
  -- This call may have been answered before: then the job has ended with it.
  if word ~= 'ok' and word ~= 'have' and word ~= 'ended' then return answer end
  return finish_one(keys, args)
end

-- KEYS record, log, channel, request, result
-- ARGV control message, control channel, code, outcome (the terminal data of a job that never began, without its count), retention ms
-- -> 'missing' | 'ended' | 'cancelled' (ended at once) | 'cancelling' (its worker was notified)
local function cancel(keys, args)
  need_event(keys[1], keys[2], keys[3])
  need('PEXPIRE', keys[1], 1)
  local status = redis.call('HGET', keys[1], 'status')
  if not status then return 'missing' end
  if is_terminal(status) then return 'ended' end
  if status == 'queued' or status == 'waiting' then -- a worker that took it over to end it finds it ended
    end_unbegun(keys, 'cancelled', args[4], args[5])
    return 'cancelled'
  end
  if status ~= 'cancelling' then
    redis.call('HSET', keys[1], 'status', 'cancelling', 'cancel_code', args[3], 'cancel_at', digits(now_ms()))
  end
  -- Published again on every call: a control message can be lost.
  redis.call('PUBLISH', args[2], args[1])
  return 'cancelling'
end

-- KEYS record, log, request, result
-- -> 'missing' | 'deleted' | 'hidden' (finish needs the record of a job that has not ended, or its completion steps do)
local function forget(keys)
  local status, base, uncompleted = unpack(redis.call('HMGET', keys[1], 'status', 'base_of_bytes', 'uncompleted'))
  if not status then return 'missing' end
  if not is_terminal(status) or uncompleted then
    redis.call('HSET', keys[1], 'hidden', '1')
    if uncompleted then
      for _, key in ipairs(keys) do redis.call('PEXPIRE', key, HIDDEN_MS, 'LT') end
      settle_bytes(keys[1], 0, nil, math.max(redis.call('PTTL', keys[1]), 0))
    end
    return 'hidden'
  end
  redis.call('DEL', keys[1], keys[2], keys[3], keys[4])
  if base then discharge(base, keys[1]) end
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

-- KEYS record; ARGV epoch, owner, report JSON -> 1 if the caller may write: the record has its report.
local function report(keys, args)
  local record = redis.call('HMGET', keys[1], 'status', 'epoch', 'owner')
  if fence(record, args[1], args[2]) then return 0 end
  redis.call('HSET', keys[1], 'report', args[3])
  return 1
end

-- KEYS record; ARGV epoch, owner, cause JSON, attempts that it has cost, progress JSON or '' for as it was
-- -> 1 if the execution was still the caller's: it comes to no end, and another one follows.
local function leave(keys, args)
  local record = redis.call('HMGET', keys[1], 'status', 'epoch', 'owner', 'attempts')
  if fence(record, args[1], args[2]) then return 0 end
  redis.call('HSET', keys[1], 'owner', '', 'attempts', tonumber(record[4]) - 1 + tonumber(args[4]))
  if args[5] ~= '' then redis.call('HSET', keys[1], 'progress', args[5]) end
  end_try(keys[1], tonumber(args[1]), args[3], now_ms())
  return 1
end

