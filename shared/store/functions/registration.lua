------------------------------------------------------------------------------------------------- registration

-- Whether a function was called since the last call of `idle`, and when it then was. A server that starts again forgets
-- both: its libraries count as just called.
local called, called_at = true, nil

-- The last of a step's KEYS is the clock's, the last of its ARGV says how long ago (ms) its caller's client last had an
-- answer of a function, or ''.
local function register(name, callback, flags)
  local writes = not (flags and flags[1] == 'no-writes')
  local function step(keys, args)
    called, called_at_ms, may_write = true, nil, writes
    clock_key, heard_ms = table.remove(keys), tonumber(table.remove(args))
    return callback(keys, args)
  end
  redis.register_function { function_name = 'tailrace_' .. name .. '_' .. VERSION, callback = step, flags = flags or {} }
end

-- -> ms since a function of this library was last called, or 0 where one was since this was last asked
local function idle()
  clock_key, called_at_ms = nil, nil
  local now = now_ms()
  if called then called, called_at = false, now end
  return math.max(now - called_at, 0)
end

-- -> the server's time in ms
local function server_time() return digits(now_ms()) end

-- ARGV (number of words, words ...) per command -> the places, from 1, of the commands that this user may not give
local function refused(_, args)
  local answers, place, i = {}, 0, 1
  while i <= #args do
    local count = tonumber(args[i])
    place = place + 1
    local known, allowed = pcall(redis.acl_check_cmd, unpack(args, i + 1, i + count))
    if not (known and allowed) then answers[#answers + 1] = place end
    i = i + count + 1
  end
  return answers
end

redis.register_function { function_name = 'tailrace_refused_' .. VERSION, callback = refused, flags = { 'no-writes' } }
redis.register_function { function_name = 'tailrace_idle_' .. VERSION, callback = idle, flags = { 'no-writes' } }

-- Steps that a job needs to end carry `allow-oom`. `append` and `create` do not: refused for memory is
-- back-pressure there, and a server that is full takes no new jobs.
register('time', server_time, { 'no-writes' })
register('admit', admit)
register('relist', relist, { 'allow-oom' })
register('free', free, { 'allow-oom' })
register('withdraw', withdraw, { 'allow-oom' })
register('release', release, { 'allow-oom' })
register('take', take, { 'allow-oom' })
register('renew', renew, { 'allow-oom' })
register('give_back', give_back, { 'allow-oom' })
register('done', done, { 'allow-oom' })
register('leave_lane', leave_lane, { 'allow-oom' })
register('schedule_check', schedule_check, { 'allow-oom' })
register('due', due, { 'allow-oom' })
register('restore', restore, { 'allow-oom' })
register('backlog', backlog, { 'no-writes' })
register('alive', alive, { 'allow-oom' })
register('publish_metrics', publish_metrics, { 'allow-oom' })
register('create', create)
register('create_waiting', create_waiting)
register('register_child', register_child, { 'allow-oom' })
register('settle_children', settle_children, { 'allow-oom' })
register('create_workflow', create_workflow)
register('open_workflow', open_workflow, { 'allow-oom' })
register('drop_workflow', drop_workflow, { 'allow-oom' })
register('discard_waiting', discard_waiting, { 'allow-oom' })
register('park', park, { 'allow-oom' })
register('begin', begin, { 'allow-oom' })
register('append', append)
register('keep', keep)
register('save_checkpoint', save_checkpoint)
register('finish', finish, { 'allow-oom' })
register('finish_with_frames', finish_with_frames, { 'allow-oom' })
register('cancel', cancel, { 'allow-oom' })
register('forget', forget, { 'allow-oom' })
register('claim_completion', claim_completion, { 'allow-oom' })
register('record_completion_step', record_completion_step, { 'allow-oom' })
register('beat', beat, { 'allow-oom' })
register('leave', leave, { 'allow-oom' })
register('report', report, { 'allow-oom' })
register('view', view, { 'allow-oom' })
register('count_viewers', count_viewers, { 'no-writes' })
register('abandon', abandon, { 'allow-oom' })
register('read', read, { 'no-writes' })
register('compare_and_set', compare_and_set, { 'allow-oom' })
register('acquire_permit', acquire_permit, { 'allow-oom' })
register('release_permit', release_permit, { 'allow-oom' })
register('renew_permits', renew_permits, { 'allow-oom' })
register('add_dead_letter', add_dead_letter, { 'allow-oom' })
register('drop_letters', drop_letters, { 'allow-oom' })
register('letters', letters, { 'no-writes' })
register('open_letters', open_letters, { 'no-writes' })
register('requeued', requeued, { 'allow-oom' })
register('dismiss', dismiss, { 'allow-oom' })
register('chat_begin', chat_begin)
register('chat_commit', chat_commit, { 'allow-oom' })
register('chat_stop', chat_stop, { 'allow-oom' })
