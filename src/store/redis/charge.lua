-- Charges all the limits of one request, or none of them, and says how each stands.
-- Mirrors store/decide.rs, and for each algorithm Limit::settle, Limit::falls_to_ms, Limit::charge,
-- Limit::standing and Limit::expiry_ms in limit/mod.rs, line by line where it can.
--
-- script.rs puts three files together: this one knows records and algorithms, special.lua knows special
-- charges and gauges, decide.lua decides. A script makes all its functions anew in each call, and that is
-- a large part of what a call costs; so batches without special charges and gauges are sent to a script
-- without special.lua.
--
-- KEYS[n]    the record of one rule and path: the states of all its limits.
-- ARGV[1]    the time in milliseconds since the Unix epoch; empty: this server's clock decides.
-- ARGV[2]    gauges, each a GAUGE of special.lua and for each of its marks a MARK; mostly empty:
--            key       which of KEYS keeps its level
--            charge    which of the charges tells the use
--            level, rise, fall: it stands at this level once more than `rise` is in use, and does until
--                      each mark of this level or above has at most `fall` in use
-- ARGV[2+n]  a charge, packed by script.rs as CHARGE below:
--            key       which of KEYS
--            group     charges of one group stand or fall together; counted from 1
--            mode      0 enforce, 1 quota, 2 shadow; and MODES times 1, 2 or 3 if it is special: with an
--                      overdraft of none, allow or clip
--            hits      to spend; below zero: to give back; zero: a peek
--            capacity  the most that can be spent at once
--            a, b, c   sliding: window, slot; fixed: window; bucket: amount, window;
--                      calendar: start and end of the period, and end of the one after it
--                      (a bucket's amount is at least 1: one of none pays debts as slowly as one of 1)
--            tag       names the limit's state in its record; its first letter says the algorithm:
--                      (s)liding, (f)ixed, (b)ucket, (c)alendar, (t)otal
--            A special charge goes on as SPECIAL of special.lua: how much of the capacity is open to it,
--            how many gauges press it and how many bonuses it has; for each of those gauges a PRESSED:
--            which, how many levels, and as ONE what is open at each; for each bonus, the soonest to end
--            first, a BONUS: amount, end, id.
--
-- Reply      {1 or 0: admitted or not, time, then for each charge: fit, remaining, reset, then the level of
--            each gauge}
--            fit       0 it fits; n it would after n milliseconds; -1 never
--            reset     in milliseconds; -1 time alone brings nothing back
--            or {2, time}: a calendar period was worked out for another time than this server's.
--
-- A record is a byte VERSION and for each limit an ENTRY: tag, expiry (0: never), and a body that only
-- the algorithm reads: sliding: total, then the last millisecond and the count of each slot, oldest
-- first; fixed and calendar: end, count; bucket: at, debt; total: count. All are unsigned integers of
-- seven bytes, which a Lua number holds exactly as far as limit/mod.rs lets them grow. An entry named `+`,
-- tag, `|`, id counts what is spent of a bonus; the entry LEVEL holds the level of the record's gauge in one
-- byte, and lives as long as any other. Bytes that are no record count as none; an entry that no charge asks
-- for (a newer policy's, say) is kept as it is until it expires.

local VERSION = '\1'
local CHARGE = '<I2I2Bi8I7I7I7I7Bc0'
local ENTRY = '<Bc0I7I2c0'
local ONE = '<I7'
local PAIR = '<I7I7'
local ONE_LEN = 7
local PAIR_LEN = 14

local LEVEL = '!'

-- As in limit/bucket.rs and limit/mod.rs.
local OWED_MAX = 9007199254740992
local FAR_MS = 9007199254740991
local NEVER = math.huge

-- A given time has nothing to do with the server's, by which records expire: they stay so much longer.
local GIVEN_GRACE_MS = 3600000

local pack, unpack = struct.pack, struct.unpack

local now = tonumber(ARGV[1])
local grace_ms = now and GIVEN_GRACE_MS or 0
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end

-- The later of two expiries, of which 0 is never.
local function later(one, other)
  return (one == 0 or other == 0) and 0 or math.max(one, other)
end

-- Reads a record; fails on bytes that are none.
local function parse(bytes)
  local record, at = { entries = {}, expiry = 1 }, 2
  while at <= #bytes do
    local entry = {}
    entry.tag, entry.expiry, entry.body, at = unpack(ENTRY, bytes, at)
    record.expiry = later(record.expiry, entry.expiry)
    record.entries[#record.entries + 1] = entry
    record.entries[entry.tag] = entry
  end
  return record
end

-- The record under a key; an empty one if there is none.
local function load(key)
  local bytes = redis.call('GET', key)
  if bytes and bytes:sub(1, 1) == VERSION then
    local ok, record = pcall(parse, bytes)
    if ok then return record end
  end
  return { entries = {} }
end

-- The entry under a tag, new if there is none.
local function entry_of(record, tag)
  local entry = record.entries[tag]
  if not entry then
    entry = { tag = tag, expiry = 1, body = '' }
    record.entries[#record.entries + 1] = entry
    record.entries[tag] = entry
  end
  -- What was written to be gone by now is gone, whatever a changed limit would make of it.
  if entry.expiry ~= 0 and entry.expiry <= now then entry.body = '' end
  return entry
end

-- Gives the charge's entry the fields that its algorithm reads from the body, if that can be one, and
-- drops what no longer counts. An entry without a body is an empty state. Mirrors Limit::settle.
local function settle(charge, entry)
  local kind, body, len = charge.kind, entry.body, #entry.body
  if kind == 's' then
    entry.first = ONE_LEN + 1
    if len < ONE_LEN + PAIR_LEN or (len - ONE_LEN) % PAIR_LEN ~= 0 then
      entry.body = ''
      return
    end
    entry.total = unpack(ONE, body)
    while entry.first < len do
      local ends, count = unpack(PAIR, body, entry.first)
      if now < ends + charge.a then break end
      entry.total = entry.total - count
      entry.first = entry.first + PAIR_LEN
    end
    if entry.total <= 0 or len < entry.first then entry.body = '' end
  elseif kind == 't' then
    entry.count = len == ONE_LEN and unpack(ONE, body) or 0
    if entry.count == 0 then entry.body = '' end
  elseif len ~= PAIR_LEN then
    entry.body = ''
  elseif kind == 'b' then
    local at, debt = unpack(PAIR, body)
    entry.at = math.max(at, now)
    entry.debt = math.max(debt - math.max(now - at, 0) * charge.a, 0)
    if entry.debt == 0 then entry.body = '' end
  else
    entry.ends, entry.count = unpack(PAIR, body)
    if entry.ends <= now or entry.count == 0 then entry.body = '' end
  end
end

-- The units of a bucket's debt that so many hits are.
local function units(charge, hits)
  return math.min(hits * charge.b, OWED_MAX)
end

-- The hits that are spent. Mirrors Limit::used.
local function used(charge, entry)
  if entry.body == '' then return 0 end
  if charge.kind == 'b' then return math.ceil(entry.debt / charge.b) end
  return entry.total or entry.count
end

-- The last millisecond of the youngest slot of a sliding window.
local function last_end(entry)
  return (unpack(ONE, entry.body, #entry.body - PAIR_LEN + 1))
end

-- When the oldest slots that hold the excess have left the window. Mirrors Sliding::freed_at_ms.
local function freed_at(charge, entry, excess)
  local freed = 0
  for at = entry.first, #entry.body, PAIR_LEN do
    local ends, count = unpack(PAIR, entry.body, at)
    freed = freed + count
    if excess <= freed then return ends + charge.a end
  end
  return last_end(entry) + charge.a
end

-- When at most so much is in use if nobody spends. Mirrors Limit::falls_to_ms.
local function falls_to(charge, entry, used_max)
  local excess = used(charge, entry) - used_max
  if excess <= 0 then return now end
  if charge.kind == 's' then return freed_at(charge, entry, excess) end
  if charge.kind == 'b' then
    local debt = entry.debt - units(charge, used_max)
    return math.min(entry.at + math.ceil(debt / charge.a), FAR_MS)
  end
  return charge.kind == 't' and NEVER or entry.ends
end

-- The end of the fixed window or calendar period that holds the present; 0 where there is none.
local function window_end(charge)
  if charge.kind == 'f' then return now - now % charge.a + charge.a end
  if charge.kind == 'c' then return now < charge.b and charge.b or charge.c end
  return 0
end

-- Adds hits to a sliding window, of which only head and tail are looked at. Mirrors Slots::add.
local function add(charge, entry, hits)
  local ends = now - now % charge.b + charge.b - 1
  if entry.body == '' then
    entry.total, entry.body = hits, pack(PAIR, hits, ends) .. pack(ONE, hits)
  else
    local tail = #entry.body - PAIR_LEN + 1
    local tail_ends, count = unpack(PAIR, entry.body, tail)
    entry.total = entry.total + hits
    if ends <= tail_ends then
      ends, hits = tail_ends, hits + count
    else
      tail = tail + PAIR_LEN
    end
    entry.body = pack(ONE, entry.total)
      .. entry.body:sub(entry.first, tail - 1) .. pack(PAIR, ends, hits)
  end
  entry.first = ONE_LEN + 1
end

-- Takes hits out of a sliding window, the oldest first. Mirrors Slots::give_back.
local function give_back(entry, hits)
  entry.total = entry.total - hits
  for at = entry.first, #entry.body, PAIR_LEN do
    local ends, count = unpack(PAIR, entry.body, at)
    if hits < count then
      entry.first = ONE_LEN + 1
      entry.body = pack(ONE, entry.total)
        .. pack(PAIR, ends, count - hits) .. entry.body:sub(at + PAIR_LEN)
      return
    end
    hits = hits - count
  end
  entry.body = ''
end

-- Spends hits on a settled state, or gives them back. Mirrors Limit::charge.
local function spend(charge, entry, hits)
  local kind, empty = charge.kind, entry.body == ''
  if kind == 's' then
    if 0 < hits then add(charge, entry, hits) else give_back(entry, -hits) end
  elseif kind == 'b' then
    if empty then entry.at, entry.debt = now, 0 end
    local debt = units(charge, math.abs(hits))
    entry.debt = 0 < hits and math.min(entry.debt + debt, OWED_MAX) or math.max(entry.debt - debt, 0)
    entry.body = entry.debt == 0 and '' or pack(PAIR, entry.at, entry.debt)
  else
    if empty then entry.ends, entry.count = window_end(charge), 0 end
    entry.count = math.max(entry.count + hits, 0)
    entry.body = entry.count == 0 and ''
      or kind == 't' and pack(ONE, entry.count)
      or pack(PAIR, entry.ends, entry.count)
  end
end

-- When the state is empty by itself; 0 for never. Mirrors Limit::expiry_ms.
local function expiry(charge, entry)
  if entry.body == '' then return now end
  if charge.kind == 't' then return 0 end
  if charge.kind == 's' then return last_end(entry) + charge.a end
  if charge.kind == 'b' then return math.min(entry.at + math.ceil(entry.debt / charge.a), FAR_MS) end
  return entry.ends
end

-- Milliseconds to the reset; mirrors Limit::standing.
local function reset(charge, entry)
  if charge.kind == 't' then return -1 end
  if entry.body ~= '' then return math.max(expiry(charge, entry) - now, 0) end
  return math.max(window_end(charge) - now, 0)
end

-- Writes a record without what is empty or has expired.
local function store(key, record)
  local parts, last = { VERSION }, 1
  for _, entry in ipairs(record.entries) do
    if entry.body ~= '' and (entry.expiry == 0 or now < entry.expiry) and entry.tag ~= LEVEL then
      parts[#parts + 1] =
        pack(ENTRY, #entry.tag, entry.tag, entry.expiry, #entry.body, entry.body)
      last = later(last, entry.expiry)
    end
  end
  local level = record.entries[LEVEL]
  if level and level.body ~= '' and (level.expiry == 0 or now < level.expiry) and 1 < #parts then
    parts[#parts + 1] = pack(ENTRY, #LEVEL, LEVEL, last, #level.body, level.body)
  end
  if #parts == 1 then
    redis.call('DEL', key)
  elseif last == 0 then
    redis.call('SET', key, table.concat(parts))
  elseif last == record.expiry then
    redis.call('SET', key, table.concat(parts), 'KEEPTTL')
  else
    redis.call('SET', key, table.concat(parts), 'PX', last - now + grace_ms)
  end
end
