#!lua name=tailrace_@VERSION@
-- The atomic steps of Tailrace, as Redis Functions. Each is one step of design: it happens whole or not at all.
-- shared/store/jobs.py and shared/store/replay_log.py call the job side, shared/store/queue.py the queue side. No
-- function needs both, so that the two may live on different servers. Where they are one, `take` reads the job too.
-- Every function's name ends in a hash of this source, which replaces the placeholder: two versions of the library stand
-- side by side, and neither replaces the other.

local VERSION = '@VERSION@'
local NUDGE_OVER = 16384 -- a larger live message would not count against a subscriber's output buffer limit
local MAX_WAKE_UPS = 1000   -- more than the free workers are not needed
local TICK_MS = 50       -- a server takes longer than this to start again
local EPOCHS_SINCE_MS = 1767225600000 -- 2026: ticks since then are epochs that a lost job has not had, and fit a double
local BREAKER_STATES_MS = 900000 -- states that were not changed for many of their longest pauses are obsolete
local LONG_LEASES = 4    -- workers whose settings differ may hold a claim for longer than the one that checks it
local ARQ_RETRY_S = 88400 -- how long arq keeps a job's count of tries
local MAX_TAKEN_BYTES = 65536 -- `take` returns no larger request: its answer shares a connection with others
local MAX_OVER = 100     -- dead letters over the bound are dropped so many at a time
local HIDDEN_MS = 60000  -- how long a job is kept after its end whose owner deleted it while it ran: others may read on

-- shared/model/lifecycle.py, TRANSITIONS: a contract test compares the two, pair by pair.
local ENDS_FROM = {
  completed = { running = true },
  failed = { waiting = true, queued = true, running = true },
  expired = { waiting = true, queued = true, running = true },
  cancelled = { cancelling = true },
}

local function is_terminal(status) return ENDS_FROM[status] ~= nil end

-- Lua writes large numbers as 1.7e+12; Redis wants digits.
local function digits(number) return string.format('%.0f', number) end

-- The server's clock, which never goes back: every time that is written is compared with this clock only. A server that
-- is set back, or a replica in its place whose clock is behind, has its clock put ahead by as much. One that is put
-- forward while it runs has its clock put back by as much (`ahead` is then negative). The key `clock` holds how far (ms),
-- and the last time that was returned. Each call of a function sees one time.
-- A clock that was put forward is distinguished from time that passed by the caller: it says how long ago its client last had an
-- answer of a function here. A caller without such an answer is no witness: the server's clock is then believed.
local STEP_MS = 1000    -- a clock that is corrected by less is left alone; the key is written no more often
local LEAP_MS = 60000   -- a call is on its way for less than this: a larger difference is a change of the clock
local clock_key, may_write, called_at_ms, heard_ms

-- The last time that this server returned since it started, by the keys of clocks.
local last_times = {}

local function steady(now)
  local kept = redis.call('GET', clock_key)
  local former, written = string.match(kept or '', '^(%-?%d+) (%d+)$')
  former, written = tonumber(former) or 0, tonumber(written) or now
  local ahead, last_here = former, kept and last_times[clock_key]
  local last = math.max(written, last_here or 0)
  local passed = now + ahead - last
  if passed < -STEP_MS then
    ahead = last + (last_here and 0 or STEP_MS) - now -- so much may have been returned since the key was written
  elseif last_here and heard_ms and passed > heard_ms + LEAP_MS then
    ahead = last - now
  elseif ahead > 0 and passed > LEAP_MS then
    ahead = math.max(last - now, 0)
  end
  local time = now + ahead
  last_times[clock_key] = time
  if may_write and (not kept or ahead ~= former or time - written >= STEP_MS) then
    redis.call('SET', clock_key, digits(ahead) .. ' ' .. digits(time))
  end
  return time
end

-- When a function was first called since this server started, by the keys of clocks. What happened to a job that is
-- older may be forgotten.
local awake_since = {}

local function now_ms()
  if called_at_ms then return called_at_ms end
  local time = redis.call('TIME')
  local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
  if clock_key then
    now = steady(now)
    awake_since[clock_key] = awake_since[clock_key] or now
  end
  called_at_ms = now
  return now
end

-- Whether this server may have lost events of a job of this age.
local function may_have_forgotten(created) return created < awake_since[clock_key] end

local function frame(event, data, epoch, seq)
  return 'event: ' .. event .. '\ndata: ' .. data .. '\nid: ' .. digits(epoch) .. '-' .. digits(seq) .. '\n\n'
end

local function publish(channel, bytes)
  if #bytes > NUDGE_OVER then bytes = '' end
  redis.call('PUBLISH', channel, bytes)
end

-- JSON text of a string that our own side wrote (ids and lane names): nothing in it needs escaping.
local function quoted(text) return '"' .. text .. '"' end

-- Raise unless the caller's user may give this command: a step that is refused half-way has written its first half.
local function need(command, name, ...)
  if not redis.acl_check_cmd(command, name, ...) then
    error(redis.error_reply('NOPERM This user may not ' .. command .. ' ' .. name))
  end
end

-- Check the rights of a step that logs an event.
local function need_event(record, log, channel)
  need('HSET', record, 'f', 'v')
  need('XADD', log, '*', 'f', 'v')
  need('PUBLISH', channel, 'm')
end

