------------------------------------------------------------------------------------------------ job side: completion
-- A job's completion steps run after its end. A record names the process that runs them now (`completer`: owner and the
-- end of its claim) and the finished steps that must not run again (`completed_steps`). Records of other versions, and of
-- jobs that completed without such a step, have neither. `uncompleted` marks a job that ended without a worker, until the
-- first claim: its record must outlive a deletion by its owner.

-- -> the owner of the claim, and when it ends (ms); nil without one
local function completer_of(text)
  local owner, until_ms = string.match(text or '', '^(%S+) (%d+)$')
  return owner, tonumber(until_ms)
end

-- KEYS record; ARGV owner, lease ms
-- -> {'missing'} | {'open'} (the job has not ended) | {'busy', ms until the other claim ends}
--  | {'claimed', steps that are done, by spaces, record ...}
-- The same owner may claim again: its first answer may have been lost.
local function claim_completion(keys, args)
  local status, completer, steps = unpack(redis.call('HMGET', keys[1], 'status', 'completer', 'completed_steps'))
  if not status then return { 'missing' } end
  if not is_terminal(status) then return { 'open' } end
  local now, owner, until_ms = now_ms(), completer_of(completer)
  if owner and owner ~= args[1] and until_ms > now then return { 'busy', until_ms - now } end
  redis.call('HSET', keys[1], 'completer', args[1] .. ' ' .. digits(now + tonumber(args[2])))
  redis.call('HDEL', keys[1], 'uncompleted')
  return { 'claimed', steps or '', unpack(redis.call('HGETALL', keys[1])) }
end

-- KEYS record; ARGV owner, lease ms, step -> 1, or 0 if another process has claimed the completion, or the record is gone
-- The step is done and does not run again; the claim is renewed.
local function record_completion_step(keys, args)
  local completer, steps = unpack(redis.call('HMGET', keys[1], 'completer', 'completed_steps'))
  if completer_of(completer) ~= args[1] then return 0 end
  local known = false
  for step in string.gmatch(steps or '', '%S+') do known = known or step == args[3] end
  if not known then steps = steps and steps .. ' ' .. args[3] or args[3] end
  redis.call('HSET', keys[1], 'completer', args[1] .. ' ' .. digits(now_ms() + tonumber(args[2])),
    'completed_steps', steps)
  return 1
end

