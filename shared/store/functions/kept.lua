-------------------------------------------------------------------------------------------- job side: bytes kept
-- A tenant's bytes on this server, by what keeps them: jobs (request, log and result) and conversations, each named by
-- its first key. `<base>:sizes` has the bytes of each, their `sum`, and the tenant's bound, `most`; `<base>:until` has
-- the time when each is gone. Both change in the step that writes the bytes, so that the sum is what is there. A job
-- counts with the next whole step until it has ended, so that appending seldom touches the sum. A job's record names
-- the base; records of versions that counted no bytes do not.

local JOB_BYTES = 6144      -- a job's bytes without request, log and result: 5 to 7 KiB, measured
local CHAT_BYTES = 512      -- the same of a conversation
local STEP_BYTES = 16384    -- a job that has not ended is counted in these
local UNENDED_MS = 3600000  -- an entry without an expiry is checked again after this long
local SWEPT_AT_ONCE = 100   -- entries that one sweep reads
local SWEEPS = 10           -- sweeps before a refusal

local function whole_steps(bytes) return (math.floor(bytes / STEP_BYTES) + 1) * STEP_BYTES end

local function sum_of(base) return tonumber(redis.call('HGET', base .. ':sizes', 'sum') or 0) end

local function outlive(key, ms)
  if redis.call('PTTL', key) < ms then redis.call('PEXPIRE', key, digits(ms)) end
end

-- So many bytes are kept under this name, and for so long, instead of those that were before.
local function charge(base, name, bytes, for_ms)
  local sizes, ends = base .. ':sizes', base .. ':until'
  local before = tonumber(redis.call('HGET', sizes, name) or 0)
  redis.call('HSET', sizes, name, digits(bytes), 'sum', digits(sum_of(base) + bytes - before))
  redis.call('ZADD', ends, digits(now_ms() + for_ms), name)
  outlive(sizes, for_ms + UNENDED_MS)
  outlive(ends, for_ms + UNENDED_MS)
end

-- The bytes under this name are gone.
local function discharge(base, name)
  local sizes, ends = base .. ':sizes', base .. ':until'
  local bytes = redis.call('HGET', sizes, name)
  if not bytes then return end
  redis.call('HDEL', sizes, name)
  redis.call('ZREM', ends, name)
  if redis.call('ZCARD', ends) == 0 then
    redis.call('DEL', sizes)
  else
    redis.call('HSET', sizes, 'sum', digits(sum_of(base) - tonumber(bytes)))
  end
end

-- Discharge deleted entries, and check the others again later. -> how many were checked
local function sweep_bytes(base)
  local ends = base .. ':until'
  local due = redis.call('ZRANGE', ends, '-inf', digits(now_ms()), 'BYSCORE', 'LIMIT', 0, SWEPT_AT_ONCE)
  for _, name in ipairs(due) do
    local left = redis.call('PTTL', name)
    if left == -2 then
      discharge(base, name)
    else
      redis.call('ZADD', ends, 'XX', digits(now_ms() + (left < 0 and UNENDED_MS or left + 1)), name)
    end
  end
  return #due
end

-- Whether a new job of so many bytes would pass what new jobs may fill: '' for any number. Each new job sweeps, so that
-- expired entries do not accumulate.
local function would_pass(base, bytes, most)
  local swept, sweeps = sweep_bytes(base), 1
  if most == '' then return false end
  while sum_of(base) + bytes > tonumber(most) do
    if swept == 0 or sweeps == SWEEPS then return true end
    swept, sweeps = sweep_bytes(base), sweeps + 1
  end
  return false
end

-- Store the tenant's bound for `append`: '' for none.
local function bound_bytes(base, most)
  if most == '' then
    redis.call('HDEL', base .. ':sizes', 'most')
  else
    redis.call('HSET', base .. ':sizes', 'most', most)
  end
end

-- A job that has not ended keeps so many bytes now, and counts with another step. -> whether its tenant has passed its
-- bound
local function grow(record, bytes)
  local base = redis.call('HGET', record, 'base_of_bytes')
  charge(base, record, whole_steps(bytes), UNENDED_MS)
  local most = tonumber(redis.call('HGET', base .. ':sizes', 'most') or '')
  return most ~= nil and sum_of(base) > most
end

-- A job has ended: without an answer, its brief takes the place of its request. -> how many bytes are spared
local function shorten_request(record, request, unanswered)
  local brief, spare = unpack(redis.call('HMGET', record, 'brief', 'spare'))
  if not brief then return 0 end
  redis.call('HDEL', record, 'brief', 'spare')
  if not unanswered then return #brief end
  redis.call('SET', request, brief)
  return tonumber(spare)
end

-- A job has ended with so many bytes more, of which `result` are its whole result, and is kept for so long.
local function settle_bytes(record, more, result, for_ms)
  local kept = redis.call('HMGET', record, 'base_of_bytes', 'bytes', 'result_bytes')
  if not kept[1] then return end
  local bytes = tonumber(kept[2]) + more
  result = result or tonumber(kept[3] or 0)
  redis.call('HSET', record, 'bytes', digits(bytes), 'result_bytes', digits(result))
  charge(kept[1], record, bytes + result, for_ms)
end
