-- Charges the limits of requests, for each request all of them or none, and says how each stands.
-- Mirrors store/embedded/decide.rs, and for each algorithm Limit::settle, Limit::falls_to_ms, Limit::charge,
-- Limit::standing and Limit::expiry_ms in limit/mod.rs, line by line where it can.
--
-- script.rs puts five files together: this one knows records and algorithms, held.lua reservations, retries.lua idempotency keys, special.lua
-- special charges and gauges, decide.lua decides. The whole is loaded as a library of functions, or, where the server
-- has none, run as a script. What costs is, in this order: the call, each call of the server inside, each table
-- that grows. So requests that come together share a call and the records that they have in common, numbers travel
-- packed, and a table is made with all its fields at once.
--
-- keys[n]    the record of one rule and path: the states of all its limits.
-- args[1]    the time in milliseconds since the Unix epoch; empty: this server's clock decides.
-- args[2]    until when by this server's clock requests may be decided, as ONE each: the earliest of all, then each
--            request's; empty: whenever. Nobody waits for one any more whose time is up
-- args[2+n]  a request, decided after those before it: the byte ONE_PLAIN, or another one and the number of GAUGEs
--            of special.lua that follow, each with its MARKs; then its charges, packed by pack.rs as CHARGE below:
--            key       which of keys
--            group     charges of one group stand or fall together; counted from 1
--            mode      0 enforce, 1 quota, 2 shadow; and MODES times 1 to 12 if it is special: 1 to 4 for an
--                      overdraft of none, allow, clip or owed; OVERDRAFTS more if its hits count when they are
--                      refused, and twice as many more if they do whatever other groups lack; SCHEDULED more if
--                      its amount follows a schedule
--            kind      the algorithm, one of those below
--            hits      to spend; below zero: to give back; zero: a peek
--            capacity  the most that can be spent at once
--            a, b, c   sliding: window, slot; fixed: window; bucket: amount, window;
--                      calendar: start and end of the period, and end of the one after it
--                      (a bucket's amount is at least 1: one of none pays debts as slowly as one of 1)
--            tag       names the limit's state in its record
--            A special charge goes on as SPECIAL of special.lua.
--
-- Reply      The time, as ONE, and for each request a byte, and what follows it:
--            0, 1      refused, admitted: for each charge an ANSWER: fit, remaining, reset, taken; then a byte
--                      for the level of each gauge; then, if any charge has thresholds, a grace or bonuses to report, or counts reservations, how many have something to
--                      report, and a NOTICE of each: which charge, a bit for each threshold that it crossed, the lowest
--                      first, until when more than its limit is in use by a grace (else 0), how many hits a grace
--                      would let pass then, or where none are asked for, the hits that reservations hold of it,
--                      those that it has spent by settling one, and how many bonuses it reports, each as
--                      HEAD: carried, spent, expired; then, if any charge may be made in part, how
--                      many did not get all hits, and a PART of each: which charge, and how many it did not get
--                      fit       0 it fits; n it would after n milliseconds; -1 never; -2 other hits have its
--                                idempotency key
--                      reset     in milliseconds; -1 time alone brings nothing back
--                      taken     ahead; -n if n hits passed that are forgiven, or did not come back of those to give
--                                back; MARK_COUNTED + n if the hits count
--                                although the request was refused, but for n that are forgiven; RETRIED + n if it was made n
--                                milliseconds before under its idempotency key
--            2         nothing was done: a calendar period or a schedule was worked out for another time than
--                      this server's
--            3         nothing was done: a key holds something else; two bytes of length, and the reason
--            4         nothing was done: its time is up
--
-- A record is a byte VERSION and for each limit an ENTRY: tag, expiry (0: never), and a body that only
-- the algorithm reads: sliding: total, then the last millisecond and the count of each slot, oldest
-- first; fixed and calendar: end, count; bucket: at, debt; total: count. All are unsigned integers of
-- seven bytes, which a Lua number holds exactly as far as limit/mod.rs lets them grow. An entry named `+`,
-- tag, `|`, id counts what is spent of a bonus (a USE of special.lua, if it recurs); one named `*`, eight bytes that name a sidecar, tag holds the greatest
-- number of its charges that are made once; the entry LEVEL holds the level of the record's gauge in one
-- byte, and lives as long as any other; one named `%`, tag holds what was told of thresholds, one named `^`, tag a grace that has begun (special.lua), and one named `@`, tag what reservations hold (held.lua). Bytes that are no record count as none; an entry that no charge asks
-- for (a newer policy's, say) is kept as it is until it expires.

local VERSION = '\1'
local CHARGE = '<I2I2BBi8I7I7I7I7Bc0'
local ANSWER = '<i8i8i8i8'
local ONE_ANSWER = '<Bi8i8i8i8'
local ENTRY = '<Bc0I7I2c0'
local ONE = '<I7'
local PAIR = '<I7I7'
local HEAD = '<I7I7I7'
local ONE_LEN = 7
local PAIR_LEN = 14
local HEAD_LEN = 21

-- The first byte of a request's reply.
local REFUSED, ADMITTED, OTHER_TIME, FAILED, LATE = 0, 1, 2, 3, 4

-- Algorithms, as in script.rs.
local SLIDING, FIXED, BUCKET, CALENDAR, TOTAL = 1, 2, 3, 4, 5

-- What an entry is that no charge has read.
local RAW = 0

local LEVEL = '!'
local TOLD_BYTE, GRACE_BYTE = 37, 94

-- As in limit/bucket.rs and limit/mod.rs.
local OWED_MAX = 9007199254740992
local FAR_MS = 9007199254740991
local NEVER = 1 / 0

-- A given time has nothing to do with the server's, by which records expire: they stay so much longer.
local GIVEN_GRACE_MS = 3600000

-- What the server has; while a library is loaded it sees none of it.
local pack, unpack, call, try_call, attempt, max, min, floor, ceil, concat
-- Of the present call.
local now, grace_ms

local function begin(given)
  if not pack then
    pack, unpack, call, try_call, attempt = struct.pack, struct.unpack, redis.call, redis.pcall, pcall
    max, min, floor, ceil, concat = math.max, math.min, math.floor, math.ceil, table.concat
  end
  grace_ms = given == '' and 0 or GIVEN_GRACE_MS
  if given == '' then
    local time = call('TIME')
    now = time[1] * 1000 + floor(time[2] / 1000)
  else
    now = 0 + given
  end
end

-- The later of two expiries, of which 0 is never.
local function later(one, other)
  return (one == 0 or other == 0) and 0 or max(one, other)
end

-- An entry before it is read. Then `used` is false for an empty state, and `body` once it has changed; `ends` and `count` are of a sliding window's
-- youngest slot, of a fixed window or a period, or the time and the debt of a bucket. Eight fields are as many as
-- a table has room for before it doubles.
local function new_entry(tag, expiry, body)
  return {
    tag = tag, expiry = expiry, body = body, kind = RAW,
    used = false, log = '', ends = 0, count = 0,
  }
end

-- Reads a record; fails on bytes that are none.
local function parse(bytes)
  local tag, expiry, body, at = unpack(ENTRY, bytes, bytes:byte() == 1 and 2 or 0)
  local record = { new_entry(tag, expiry, body), expiry = expiry, written = false }
  while at <= #bytes do
    tag, expiry, body, at = unpack(ENTRY, bytes, at)
    record[#record + 1] = new_entry(tag, expiry, body)
    record.expiry = later(record.expiry, expiry)
  end
  return record
end

-- The record under a key, empty if there is none; nil and the reason if the key holds something else.
local function load(key)
  local bytes = try_call('GET', key)
  if bytes then
    local ok, record = attempt(parse, bytes)
    if ok then return record end
    if bytes.err then return nil, bytes.err end
  end
  return { expiry = 1, written = false }
end

-- The record that a charge names, from the server if no charge has named it before. If the key holds something
-- else, nil and the reply.
local function record_of(records, keys, key)
  local record, reason = records[key]
  if not record then
    record, reason = load(keys[key])
    if not record then return nil, pack('<BI2c0', FAILED, #reason, reason) end
    records[key] = record
  end
  return record
end

-- The entry under a tag; nil if there is none.
local function find_entry(record, tag)
  for n = 1, #record do
    local entry = record[n]
    if entry.tag == tag then
      -- What was written to be gone by now is gone, whatever a changed limit would make of it.
      if entry.expiry ~= 0 and entry.expiry <= now then entry.body = '' end
      return entry
    end
  end
end

-- The entry under a tag, new if there is none.
local function entry_of(record, tag)
  local entry = find_entry(record, tag)
  if not entry then
    entry = new_entry(tag, 1, '')
    record[#record + 1] = entry
  end
  return entry
end

-- Reads a sliding window without the slots that have left it; all but the youngest stay as they are packed.
local function settle_sliding(entry, window)
  local body = entry.body
  local tail = #body - PAIR_LEN + 1
  if tail <= ONE_LEN or (tail - ONE_LEN - 1) % PAIR_LEN ~= 0 then return end
  local total, ends, count = unpack(HEAD, body)
  local first = ONE_LEN + 1
  while ends + window <= now do
    total, first = total - count, first + PAIR_LEN
    if tail < first then return end
    ends, count = unpack(PAIR, body, first)
  end
  if total <= 0 then return end
  if first < tail then
    entry.log = body:sub(first, tail - 1)
    ends, count = unpack(PAIR, body, tail)
  end
  entry.used, entry.ends, entry.count = total, ends, count
end

-- What is left at a time of what a bucket owed at another; `past` are the stretches of a schedule before the present one,
-- each with its rate, and the start of that. Mirrors Limit::pay_past and Bucket::debt.
local function owed(at, debt, time, rate, past)
  for n = 1, past and #past or 0 do
    local stretch = past[n]
    if at < stretch.ends then
      debt, at = max(debt - (stretch.ends - at) * stretch.rate, 0), stretch.ends
    end
  end
  return max(debt - max(time - at, 0) * rate, 0)
end

-- Reads an entry's body as its algorithm does, if that can be one, and drops what no longer counts. Mirrors
-- Limit::settle.
local function settle(entry, kind, a, b, past)
  local body = entry.body
  entry.kind = kind
  if kind == SLIDING then return settle_sliding(entry, a) end
  if kind == TOTAL then
    local count = #body == ONE_LEN and unpack(ONE, body) or 0
    entry.used = count ~= 0 and count
  elseif #body == PAIR_LEN then
    local at, count = unpack(PAIR, body)
    if kind == BUCKET then
      count = owed(at, count, now, a, past)
      entry.ends, entry.count = max(at, now), count
      entry.used = count ~= 0 and ceil(count / b)
    elseif now < at and count ~= 0 then
      entry.ends, entry.used = at, count
    end
  end
end

-- The units of a bucket's debt that so many hits are.
local function units(hits, b)
  return min(hits * b, OWED_MAX)
end

-- When at most so much is in use if nobody spends. Mirrors Limit::falls_to_ms.
local function falls_to(entry, used_max, a, b)
  local excess, kind = (entry.used or 0) - used_max, entry.kind
  if excess <= 0 then return now end
  if kind == SLIDING then
    local log, freed = entry.log, 0
    for at = 1, #log, PAIR_LEN do
      local ends, count = unpack(PAIR, log, at)
      freed = freed + count
      if excess <= freed then return ends + a end
    end
    return entry.ends + a
  end
  if kind == BUCKET then
    return min(entry.ends + ceil((entry.count - units(used_max, b)) / a), FAR_MS)
  end
  return kind == TOTAL and NEVER or entry.ends
end

-- The end of the fixed window or calendar period that holds the present; 0 where there is none.
local function window_end(kind, a, b, c)
  if kind == FIXED then return now - now % a + a end
  if kind == CALENDAR then return now < b and b or c end
  return 0
end

-- Adds hits to the slot of a sliding window that ends then. Mirrors Slots::add.
local function add(entry, hits, ends)
  if not entry.used then
    entry.used, entry.log, entry.ends, entry.count = hits, '', ends, hits
    return
  end
  entry.used = entry.used + hits
  if ends <= entry.ends then
    entry.count = entry.count + hits
  else
    entry.log = entry.log .. pack(PAIR, entry.ends, entry.count)
    entry.ends, entry.count = ends, hits
  end
end

-- Takes hits out of a sliding window, the oldest first. Mirrors Slots::give_back.
local function give_back(entry, hits)
  local log, left = entry.log, hits
  for at = 1, #log, PAIR_LEN do
    local ends, count = unpack(PAIR, log, at)
    if left < count then
      entry.log = pack(PAIR, ends, count - left) .. log:sub(at + PAIR_LEN)
      entry.used = entry.used - hits
      return
    end
    left = left - count
  end
  entry.log, entry.count = '', entry.count - left
  entry.used = 0 < entry.count and entry.used - hits
end

-- The last millisecond of the slot of a sliding window that holds the present.
local function slot_last(b)
  return now - now % b + b - 1
end

-- Spends hits on a settled state, or gives them back. Mirrors Limit::charge.
local function spend(entry, hits, a, b, c)
  local kind = entry.kind
  if kind == SLIDING then
    if hits < 0 then return give_back(entry, -hits) end
    return add(entry, hits, slot_last(b))
  end
  if kind == BUCKET then
    if not entry.used then entry.ends, entry.count = now, 0 end
    local debt = entry.count
    debt = 0 < hits and min(debt + units(hits, b), OWED_MAX) or max(debt - units(-hits, b), 0)
    entry.count, entry.used = debt, debt ~= 0 and ceil(debt / b)
    return
  end
  if not entry.used then entry.ends = window_end(kind, a, b, c) end
  local count = max((entry.used or 0) + hits, 0)
  entry.used = count ~= 0 and count
end

-- When the state is empty by itself; 0 for never. Mirrors Limit::expiry_ms.
local function expiry(entry, a)
  if not entry.used then return now end
  local kind = entry.kind
  if kind == SLIDING then return entry.ends + a end
  if kind == BUCKET then return min(entry.ends + ceil(entry.count / a), FAR_MS) end
  return kind == TOTAL and 0 or entry.ends
end

-- Milliseconds to the reset; mirrors Limit::standing.
local function reset(entry, a, b, c)
  local kind = entry.kind
  if kind == TOTAL then return -1 end
  local at = entry.used and expiry(entry, a) or window_end(kind, a, b, c)
  return max(at - now, 0)
end

-- What is written of an entry: what was read, if it has not changed; nothing of an empty state.
local function body_of(entry)
  local kind, used = entry.kind, entry.used
  if entry.body then return entry.body end
  if not used then return '' end
  if kind == SLIDING then
    return pack(ONE, used) .. entry.log .. pack(PAIR, entry.ends, entry.count)
  end
  if kind == BUCKET then return pack(PAIR, entry.ends, entry.count) end
  if kind == TOTAL then return pack(ONE, used) end
  return pack(PAIR, entry.ends, used)
end

-- What lives of an entry; nothing of one that is empty or has expired. Mirrors Entry::lives.
local function rest_of(entry)
  local ends = entry.expiry
  return (ends == 0 or now < ends) and body_of(entry) or ''
end

-- Drops the level of a record in which hits that were given back have left nothing else, and of a total
-- that they have emptied what was told and its grace. Mirrors Record::forget.
local function forget_level(record)
  local level, is_empty = nil, true
  for n = 1, #record do
    local entry = record[n]
    if entry.tag == LEVEL then
      level = entry
    elseif entry.expiry == 0 and (entry.tag:byte() == TOLD_BYTE or entry.tag:byte() == GRACE_BYTE) then
      if rest_of(entry_of(record, entry.tag:sub(2))) == '' then entry.body = '' else is_empty = false end
    elseif rest_of(entry) ~= '' then
      is_empty = false
    end
  end
  if level and is_empty then level.body = '' end
end

-- Writes a record without what is empty or has expired.
local function store(key, record)
  local bytes, last, level = VERSION, 1
  for n = 1, #record do
    local entry = record[n]
    local tag, ends, body = entry.tag, entry.expiry, rest_of(entry)
    if body ~= '' then
      if tag == LEVEL then
        level = body
      else
        last = bytes == VERSION and ends or later(last, ends)
        bytes = bytes .. pack(ENTRY, #tag, tag, ends, #body, body)
      end
    end
  end
  if bytes == VERSION then return call('DEL', key) end
  if level then bytes = bytes .. pack(ENTRY, #LEVEL, LEVEL, last, #level, level) end
  if last == 0 then
    call('SET', key, bytes)
  elseif last == record.expiry then
    call('SET', key, bytes, 'KEEPTTL')
  else
    call('SET', key, bytes, 'PX', last - now + grace_ms)
  end
end
