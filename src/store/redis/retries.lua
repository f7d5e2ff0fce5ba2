-- Charges with an idempotency key, between charge.lua and special.lua. Mirrors
-- store/embedded/retries.rs.
--
-- A charge that corrects a count has as ONE when was read what the correction is a difference to. It leaves an entry named
-- `~`, tag, whose body is a CORRECTED: when it was made, and the hits.
--
-- Such a charge leaves a mark under a key of its own: an entry named `=`, tag, whose body is a KEPT, the hits and how often
-- they were retried (WAS_REFUSED more if they count, but all attempts were refused so far), and an ATTEMPT for each attempt
-- at the request that has met it and was not refused elsewhere. If the hits were taken in part (IN_PART more), an entry named `:`,
-- tag beside it has as ONE how many. A KEYED
-- says which of the keys it is, how many retries are free, how long the mark lives in milliseconds, and which attempt this is.

local KEYED = '<I2I2I4c8'
local KEPT = '<i8I2'
local KEPT_LEN = 10
local ATTEMPT_LEN = 8

local CORRECTED = '<I7i8'
local CORRECTED_LEN = 15

-- As in pack.rs.
local ONCE_TOKEN, ONCE_MARK, ONCE_UNDO, ONCE_CORRECTION, ONCE_LOOK = 1, 2, 3, 4, 5

-- As in store/idempotency.rs.
local CORRECTION_LIFE_MS = 86400000

-- As in reply.rs.
local CONFLICT = -2
local RETRIED = 2251799813685248

local WAS_REFUSED, IN_PART = 32768, 16384
local RETRIES_MAX = IN_PART - 1

-- Where an attempt stands in a mark; nil if it doesn't.
local function attempt_at(body, attempt)
  for at = KEPT_LEN + 1, #body, ATTEMPT_LEN do
    if body:sub(at, at + ATTEMPT_LEN - 1) == attempt then return at end
  end
end

-- Reads what stands in a charge of its idempotency key, and finds whether it was made before; returns where it ends. If that
-- can't be, nil and the reply.
local function read_keyed(records, keys, one, bytes, at, once)
  local special = one.special
  local key, retries_max, life, attempt
  key, retries_max, life, attempt, at = unpack(KEYED, bytes, at)
  local record, failure = record_of(records, keys, key)
  if not record then return nil, failure end
  local entry = entry_of(record, '=' .. one.entry.tag)
  local keyed = {
    once = once, record = record, entry = entry, hits = special.uses_all and reservations.ALL_USED or one.hits, life = life, attempt = attempt, retries = 0,
    retries_max = retries_max, age = 0, is_conflict = false, is_retry = false, was_refused = false,
    granted = max(one.hits, 0), part = false, in_part = false,
  }
  special.keyed = keyed
  local body, hits = entry.body, nil
  local was_refused = false
  if KEPT_LEN <= #body then
    hits, keyed.retries = unpack(KEPT, body)
    was_refused = WAS_REFUSED <= keyed.retries
    keyed.retries = keyed.retries % WAS_REFUSED
    keyed.in_part = IN_PART <= keyed.retries
    keyed.retries = keyed.retries % IN_PART
  end
  if once == ONCE_UNDO then
    local is_last = #body == KEPT_LEN + ATTEMPT_LEN and attempt_at(body, attempt)
    special.is_made = not is_last
    special.prolongs = not special.is_made
  elseif hits and (one.hits ~= 0 or once == ONCE_LOOK or special.step == reservations.SETTLE) then
    keyed.is_conflict = once == ONCE_MARK and hits ~= keyed.hits
    keyed.is_retry = not keyed.is_conflict and keyed.retries < retries_max
    keyed.was_refused = keyed.is_retry and was_refused
    keyed.age = max(life - max(entry.expiry - now, 0), 0)
    special.is_made = keyed.is_conflict or keyed.is_retry
  end
  if special.part ~= 0 then
    keyed.part = entry_of(record, ':' .. one.entry.tag)
    if keyed.in_part and #keyed.part.body == ONE_LEN then keyed.granted = unpack(ONE, keyed.part.body) end
  end
  return at
end

-- Reads what stands in a charge that corrects a count, and finds whether another correction was made since; returns where it
-- ends.
local function read_correction(one, bytes, at)
  local special, read_at = one.special
  read_at, at = unpack(ONE, bytes, at)
  local entry = entry_of(one.record, '~' .. one.entry.tag)
  local keyed = {
    once = ONCE_CORRECTION, record = one.record, entry = entry, age = 0, is_conflict = false, is_retry = false,
    was_refused = false, granted = max(one.hits, 0),
  }
  special.keyed = keyed
  if #entry.body == CORRECTED_LEN then
    local made_at, hits = unpack(CORRECTED, entry.body)
    if read_at <= made_at then
      keyed.is_conflict = hits ~= one.hits
      keyed.is_retry = not keyed.is_conflict
      keyed.age = max(now - made_at, 0)
      special.is_made = true
    end
  end
  return at
end

-- Notes that a charge is made now, or that it is retried; says whether it was an attempt of several that is taken out. Mirrors
-- Decider::note.
local function note_keyed(one)
  local keyed = one.special.keyed
  if keyed.once == ONCE_CORRECTION then
    if one.special.is_made then return end
    keyed.entry.body, keyed.entry.expiry = pack(CORRECTED, now, one.hits), now + CORRECTION_LIFE_MS
    keyed.record.written = true
    return
  end
  local entry, attempt = keyed.entry, keyed.attempt
  local body = entry.body
  local at = attempt_at(body, attempt)
  if keyed.is_retry then
    local attempts = body:sub(KEPT_LEN + 1) .. (at and '' or attempt)
    local retries = min(keyed.retries + 1, RETRIES_MAX) + (keyed.in_part and IN_PART or 0)
    entry.body = pack(KEPT, keyed.hits, retries) .. attempts
  elseif keyed.once == ONCE_UNDO and one.special.is_made then
    if not at then return end
    local hits, retries = unpack(KEPT, body)
    if 0 < keyed.retries then retries = retries - 1 end
    entry.body = pack(KEPT, hits, retries) .. body:sub(KEPT_LEN + 1, at - 1) .. body:sub(at + ATTEMPT_LEN)
  elseif keyed.once == ONCE_UNDO then
    entry.body = ''
  elseif one.special.is_made then
    return
  else
    entry.body, entry.expiry = pack(KEPT, keyed.hits, 0) .. attempt, now + keyed.life
  end
  keyed.record.written = true
  return keyed.once == ONCE_UNDO and one.special.is_made
end

-- Notes how many hits a charge took in part, for retries of its request. Mirrors Decider::keep_granted.
local function note_part(one)
  local keyed, got = one.special.keyed, one.special.got
  if not keyed or keyed.once ~= ONCE_MARK or got == one.hits then return end
  keyed.part.body, keyed.part.expiry = pack(ONE, got), keyed.entry.expiry
  keyed.entry.body = pack(KEPT, one.hits, IN_PART) .. keyed.entry.body:sub(KEPT_LEN + 1)
end

-- Notes that a charge, which is noted as made, counts although it was refused. Mirrors Decider::count.
local function note_refused(one)
  local keyed = one.special.keyed
  local entry = keyed.entry
  if keyed.once ~= ONCE_MARK then return end
  entry.body = pack(KEPT, keyed.hits, WAS_REFUSED) .. entry.body:sub(KEPT_LEN + 1)
  keyed.was_refused = 0 < keyed.retries_max
end
