------------------------------------------------------------------------------------------------- dead letters
-- The indexes `all` and `open` hold the same ids by the time of their end, `open` without those that were requeued. What
-- a dead letter says is in its job's record. `owners` has each one's tenant, `tenants` how many each has, and each tenant
-- an index of its own. Letters of versions that had none of these three are in `all` and `open` only.

local function letter_lists(keys, of_tenant)
  return { all = keys[1], open = keys[2], owners = keys[3], tenants = keys[4], of_tenant = of_tenant }
end

local function count_letters(lists, tenant)
  local count = redis.call('ZCARD', lists.of_tenant .. tenant)
  if count == 0 then
    redis.call('ZREM', lists.tenants, tenant)
  else
    redis.call('ZADD', lists.tenants, count, tenant)
  end
  return count
end

local function remove_letter(lists, job)
  redis.call('ZREM', lists.all, job)
  redis.call('ZREM', lists.open, job)
  local tenant = redis.call('HGET', lists.owners, job)
  if not tenant then return end
  redis.call('HDEL', lists.owners, job)
  redis.call('ZREM', lists.of_tenant .. tenant, job)
  count_letters(lists, tenant)
end

-- -> the tenant that has most letters and how many; letters of other versions count as those of one tenant, nil
local function largest_owner(lists)
  local unowned, counts = redis.call('ZCARD', lists.all), redis.call('ZRANGE', lists.tenants, 0, -1, 'WITHSCORES')
  for i = 2, #counts, 2 do unowned = unowned - tonumber(counts[i]) end
  while true do
    local first = redis.call('ZRANGE', lists.tenants, 0, 0, 'REV', 'WITHSCORES')
    if #first == 0 or tonumber(first[2]) < unowned then return nil, unowned end
    local count = count_letters(lists, first[1]) -- its index may have expired
    if count == tonumber(first[2]) then return first[1], count end
  end
end

-- The oldest letters of a tenant, or of none: so many, those aside that were found before.
local function oldest_letters(lists, tenant, count, found)
  if count <= 0 then return end
  local index = tenant and lists.of_tenant .. tenant or lists.all
  for _, job in ipairs(redis.call('ZRANGE', index, 0, count + #found - 1 + (tenant and 0 or MAX_OVER))) do
    if count <= 0 then return end
    local known = not tenant and redis.call('HEXISTS', lists.owners, job) == 1
    for _, each in ipairs(found) do known = known or each == job end
    if not known then
      found[#found + 1] = job
      count = count - 1
    end
  end
end

-- KEYS all, open, owners, tenants
-- ARGV job, ended ms, retention ms, most, tenant, the tenants' indexes without their names, most of a tenant
-- -> {1 if it was not there, or 0, then ids that are too many ...}
-- A tenant's own letters make its oldest too many. If all have too many, the oldest of the tenant with most is dropped. They stay
-- until their caller has let their jobs go, some of them at a time.
local function add_dead_letter(keys, args)
  local job, tenant, lists = args[1], args[5], letter_lists(keys, args[6])
  local oldest = now_ms() - tonumber(args[3])
  local added = tonumber(args[2]) > oldest and redis.call('ZADD', lists.all, 'NX', args[2], job) or 0
  if added == 1 then
    redis.call('ZADD', lists.open, args[2], job)
    redis.call('ZADD', lists.of_tenant .. tenant, args[2], job)
    redis.call('HSET', lists.owners, job, tenant)
  end
  for _, each in ipairs(redis.call('ZRANGE', lists.all, '-inf', digits(oldest), 'BYSCORE', 'LIMIT', 0, MAX_OVER)) do
    remove_letter(lists, each)
  end
  local own = count_letters(lists, tenant)
  for _, key in ipairs(keys) do redis.call('PEXPIRE', key, args[3]) end
  redis.call('PEXPIRE', lists.of_tenant .. tenant, args[3])
  local found = {}
  oldest_letters(lists, tenant, math.min(own - tonumber(args[7]), MAX_OVER), found)
  local over = math.min(redis.call('ZCARD', lists.all) - #found - tonumber(args[4]), MAX_OVER)
  if over > 0 then
    local largest = largest_owner(lists)
    oldest_letters(lists, largest, over, found)
  end
  return { added, unpack(found) }
end

-- KEYS all, open, owners, tenants; ARGV the tenants' indexes without their names, then jobs: no dead letters any more
local function drop_letters(keys, args)
  local lists = letter_lists(keys, args[1])
  for i = 2, #args do remove_letter(lists, args[i]) end
  return 1
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

-- KEYS record; ARGV the new job -> 1, or 0 if the record is gone. The first call wins.
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
  local left = digits(tonumber(record[2]) + tonumber(args[1]) - now_ms())
  for _, key in ipairs(keys) do redis.call('PEXPIRE', key, left, 'LT') end
  settle_bytes(keys[1], 0, nil, math.max(tonumber(left), 0))
  return 1
end

