------------------------------------------------------------------------------------------------ conversations
-- `next` is a job on its way in, `job` the one that answers, unless it was stopped, `last` the one whose request and
-- answer are the conversation so far, `turns` the parts of its request.

-- KEYS conversation; ARGV job, the last job that the caller has read or '*' for any, ttl ms, base of the tenant's bytes
-- -> {1, the job that was on its way in until now, or ''} | {0, ''} (there is another last job)
local function chat_begin(keys, args)
  local chat = redis.call('HMGET', keys[1], 'last', 'next')
  if args[2] ~= '*' and args[2] ~= (chat[1] or '') then return { 0, '' } end
  redis.call('HSET', keys[1], 'next', args[1])
  redis.call('PEXPIRE', keys[1], args[3])
  local turns = redis.call('HGET', keys[1], 'turns') or ''
  charge(args[4], keys[1], CHAT_BYTES + #keys[1] + #turns, tonumber(args[3]))
  return { 1, chat[2] or '' }
end

-- KEYS conversation; ARGV job, turns, ttl ms, base of the tenant's bytes
-- -> {1, the job that answered until now, or ''} | {0, ''} (stopped, or another one has begun since)
local function chat_commit(keys, args)
  local chat = redis.call('HMGET', keys[1], 'next', 'job')
  if chat[1] ~= args[1] then return { 0, '' } end
  redis.call('HDEL', keys[1], 'next')
  redis.call('HSET', keys[1], 'job', args[1], 'last', args[1], 'turns', args[2])
  redis.call('PEXPIRE', keys[1], args[3])
  charge(args[4], keys[1], CHAT_BYTES + #keys[1] + #args[2], tonumber(args[3]))
  return { 1, chat[2] or '' }
end

-- KEYS conversation; ARGV job that is meant, or '' for any, base of the tenant's bytes
-- -> jobs that answered or were on their way in, and do no more
local function chat_stop(keys, args)
  local chat, stopped = redis.call('HMGET', keys[1], 'next', 'job'), {}
  for i, field in ipairs({ 'next', 'job' }) do
    if chat[i] and (args[1] == '' or args[1] == chat[i]) then
      stopped[#stopped + 1] = chat[i]
      redis.call('HDEL', keys[1], field)
    end
  end
  if redis.call('EXISTS', keys[1]) == 0 then discharge(args[2], keys[1]) end
  return stopped
end

