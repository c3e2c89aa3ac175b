-- Whether the log holds the event of this id, perhaps inside an entry, whose id is that of its last event.
local function holds(log, id)
  local entry = redis.call('XRANGE', log, id, '+', 'COUNT', 1)[1]
  if not entry or entry[1] == id then return entry ~= nil end
  local first_epoch, first_seq = string.match(entry[2][2], '\nid: (%d+)%-(%d+)')
  local epoch, seq = string.match(id, '^(%d+)%-(%d+)$')
  return epoch == first_epoch and tonumber(seq) >= tonumber(first_seq)
end

-- KEYS record, log; ARGV cursor, max bytes
-- -> {'missing'} | {status, last id, first id of the log, 1 if it holds the cursor, 1 if there is more, entry ...}
-- Every entry after the cursor, until the bytes are reached: at least one, so that a reader always gets on.
local function read(keys, args)
  local record = redis.call('HMGET', keys[1], 'status', 'epoch', 'seq')
  if not record[1] then return { 'missing' } end
  local first = redis.call('XRANGE', keys[2], '-', '+', 'COUNT', 1)[1]
  local earliest = first and string.match(first[2][2], '\nid: (%d+%-%d+)') or ''
  local last = redis.call('XREVRANGE', keys[2], '+', '-', 'COUNT', 1)[1]
  local reply = { record[1], last and last[1] or '', earliest, holds(keys[2], args[1]) and 1 or 0, 0 }
  local room, from = tonumber(args[2]), args[1]
  while true do
    local page = redis.call('XRANGE', keys[2], '(' .. from, '+', 'COUNT', 64)
    for _, entry in ipairs(page) do
      if room <= 0 then
        reply[5] = 1
        return reply
      end
      reply[#reply + 1] = entry[2][2]
      room = room - #entry[2][2]
      from = entry[1]
    end
    if #page < 64 then return reply end
  end
end

