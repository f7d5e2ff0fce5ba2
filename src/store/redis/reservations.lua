-- Writes the record of a reservation that was made over HTTP, beside the others of its caller. Mirrors
-- MemoryRecords::write in store/reservation_records.rs.
--
-- KEYS[1]  the caller's records: a hash by id
-- ARGV     the id; the record; the time and until when the record is kept, in milliseconds since the Unix epoch; how many
--          records a caller may have; `1` for a record that must be new
--
-- Reply    nil: it is written; the record that is there instead; or an empty text: there is no room

local key, id, text, now, ends = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local max, is_new = tonumber(ARGV[5]), ARGV[6] == '1'

local function ends_of(known)
  return tonumber(known:match('^%d+')) or 0
end

local known = redis.call('HGET', key, id)
if known and is_new and now < ends_of(known) then return known end
if not known and max <= redis.call('HLEN', key) then
  local all = redis.call('HGETALL', key)
  for n = 1, #all, 2 do
    if ends_of(all[n + 1]) <= now then redis.call('HDEL', key, all[n]) end
  end
  if max <= redis.call('HLEN', key) then return '' end
end
redis.call('HSET', key, id, ends .. ' ' .. text)
redis.call('PEXPIRE', key, math.max(redis.call('PTTL', key), ends - now, 1))
return false
