-- Decides requests, after charge.lua and special.lua. Mirrors `decide` in store/embedded/decide.rs.

-- As in pack.rs.
local MODES = 4
local SCHEDULED = 128
local ENFORCE, QUOTA, SHADOW = 0, 1, 2

local NOTICE = '<I2BI7I7I7I7B'
local PART = '<I2I7'

-- What a request begins with that has one plain charge; others go on with the number of their gauges.
local ONE_PLAIN = 1

-- Whether so many hits fit in what is used of a limit, or when they would.
local function fit_of(entry, hits, capacity, a, b)
  if hits <= max(capacity - (entry.used or 0), 0) then return 0 end
  local at = hits <= capacity and falls_to(entry, capacity - hits, a, b) or NEVER
  return at == NEVER and -1 or at - now
end

-- Spends hits, or gives them back, and notes that there is something to write.
local function charge(record, entry, hits, a, b, c)
  if 0 < hits or hits < 0 and entry.used then
    spend(entry, hits, a, b, c)
    entry.body, entry.expiry, record.written = false, expiry(entry, a), true
  end
end

-- A request of one plain charge, as most are: what all of this file comes to for it, without a table.
local function decide_one(records, keys, bytes)
  local key, _, mode, kind, hits, capacity, a, b, c, tag = unpack(CHARGE, bytes, 2)
  if kind == CALENDAR and (now < a or c <= now) then return pack('<B', OTHER_TIME) end
  local record, failure = record_of(records, keys, key)
  if not record then return failure end
  local entry = entry_of(record, tag)
  if entry.kind == RAW then settle(entry, kind, a, b) end
  local fit = fit_of(entry, hits, capacity, a, b)
  -- What does not come back of hits that do: more than is in use.
  local taken = hits < 0 and min(hits + (entry.used or 0), 0) or 0
  if fit == 0 then charge(record, entry, hits, a, b, c) end
  local admitted = (fit == 0 or mode == SHADOW) and ADMITTED or REFUSED
  local remaining = max(capacity - (entry.used or 0), 0)
  if hits < 0 then forget_level(record) end
  return pack(ONE_ANSWER, admitted, fit, remaining, reset(entry, a, b, c), taken)
end

-- What decide_passing decides: the codes of charges without and with thresholds, as in pack.rs, and what stands in SPECIAL
-- after what is open, without and with an idempotency key.
local PASSING = {
  PLAIN = 1, TELLS = OVERDRAFTS * DEBITS + 1, NOTHING = ('\0'):rep(19),
  -- With ONCE_MARK.
  KEYED = ('\0'):rep(14) .. '\2' .. ('\0'):rep(4), NO_NOTICES = '\0\0',
}

-- A request of one charge, with thresholds, a schedule or an idempotency key, that passes, is no retry and has nothing to
-- report, as most are: what all of this file comes to for it, without tables. For any other nil, and nothing is done.
local function decide_passing(records, keys, bytes)
  local gauges, first = unpack(GAUGES, bytes, 2)
  if gauges ~= 0 then return end
  local key, _, mode, kind, hits, _, a, b, c, tag, at = unpack(CHARGE, bytes, first)
  local is_scheduled = SCHEDULED <= mode
  local code = floor((is_scheduled and mode - SCHEDULED or mode) / MODES)
  local tells = code == PASSING.TELLS
  if hits <= 0 or not tells and code ~= PASSING.PLAIN then return end
  if kind == CALENDAR and (now < a or c <= now) then return end

  local open, rest, mark, life, attempt, lowest, slowest
  open, at = unpack(ONE, bytes, at)
  rest, at = bytes:sub(at, at + #PASSING.NOTHING - 1), at + #PASSING.NOTHING
  if rest == PASSING.KEYED then
    mark, _, life, attempt, at = unpack(KEYED, bytes, at)
  elseif rest ~= PASSING.NOTHING then
    return
  end
  if tells then
    local points
    _, points, at = unpack(THRESHOLDS, bytes, at)
    if points ~= 0 then _, lowest = unpack(POINT, bytes, at) end
    at = at + points * POINT_LEN
  end
  if is_scheduled then
    local from, ends, before, after
    from, ends, slowest, before, after, at = unpack(SCHEDULE, bytes, at)
    if before ~= 0 or now < from or ends <= now then return end
    at = at + after * HEAD_LEN
  end
  if at <= #bytes then return end

  local record = record_of(records, keys, key)
  if not record then return end
  local entry = entry_of(record, tag)
  if entry.kind == RAW then settle(entry, kind, a, b) end
  local used = (entry.used or 0) + hits
  if open < used or lowest and lowest <= used then return end
  local told = tells and find_entry(record, TOLD .. tag)
  if told and told.body ~= '' then return end
  if mark then
    local body = pack(KEPT, hits, 0) .. attempt
    local made = VERSION .. pack(ENTRY, #tag + 1, '=' .. tag, now + life, #body, body)
    if records[mark] or not call('SET', keys[mark], made, 'NX', 'PX', life + grace_ms) then return end
  end
  charge(record, entry, hits, a, b, c)
  if slowest then entry.expiry = expiry(entry, slowest) end
  local left = max(open - (entry.used or 0), 0)
  return pack(ONE_ANSWER, ADMITTED, 0, left, reset(entry, a, b, c), 0) .. (tells and PASSING.NO_NOTICES or '')
end

-- Whether a charge takes part of its hits if it has to, or did so in an earlier attempt at the request.
local function is_in_part(one)
  local special = one.special
  if not special or special.part == 0 then return false end
  return not special.is_made or special.keyed and special.keyed.is_retry
end

-- Finds how many hits each part of a request gets that passes. Mirrors Decider::find_grants.
local function find_grants(charges)
  local grants = {}
  for n = 1, #charges do
    local one = charges[n]
    if one.mode == ENFORCE and is_in_part(one) then
      local part = one.special.part
      grants[part] = min(grants[part] or NEVER, left_of(one))
    end
  end
  return grants
end

-- The hits in use of a limit and of the bonuses on it. Mirrors Decider::used_in_all.
local function used_in_all(one)
  local used = one.entry.used or 0
  for _, bonus in ipairs(one.special.bonuses) do used = used + bonus.spent end
  return used
end

-- Makes a special charge. Mirrors Decider::spend.
local function spend_special(one, grants)
  local special, entry = one.special, one.entry
  local only_estimates = one.hits == 0 and reservations.ESTIMATE <= special.step
  local is_empty = one.hits == 0 and not only_estimates and special.step ~= reservations.SETTLE and special.step ~= reservations.EXTEND
  local notes = special.keyed and (not is_empty and not only_estimates or special.keyed.once == ONCE_CORRECTION)
  if notes and note_keyed(one) then amends.untell(one) end
  if is_empty then
    if special.amends then amends.tell(one) end
    return
  end
  local is_partial = is_in_part(one)
  if is_partial then special.got = min(left_of(one), grants[special.part] or NEVER) end
  if special.is_made then return end
  if is_partial then note_part(one) end
  if special.seen then see(one) end
  local before = one.hits < 0 and used_in_all(one)
  local hits = special_spending(one)
  if not hits then return end
  if special.keyed and special.keyed.once == ONCE_MARK then amends.keep_taken(one) end
  if special.ends then
    take_back(one, -hits)
    if special.amends then amends.undo(one) end
  else
    local used = entry.used or 0
    charge(one.record, entry, hits, one.a, one.b, one.c)
    if special.points then tell(one, used) end
    if special.grace then keep_grace(one) end
    take_ahead(one)
  end
  if before then one.back = before - used_in_all(one) end
  -- What a bucket owes is kept until it is paid at the slowest rate. Mirrors Limit::latest_expiry_ms.
  if one.schedule and not entry.body then entry.expiry = expiry(entry, one.schedule.slowest) end
end

-- Whether the hits of a charge may count although the request is refused. Mirrors Charge::is_debit.
local function is_debit(one)
  return one.special and one.special.debit ~= 0 and 0 < one.hits
end

-- Whether a charge is made although other groups lack their hits. Mirrors Charge::is_booked.
local function is_booked(one)
  return one.special and one.special.debit == BOOKED
end

-- Makes a debit although the request is refused. Mirrors Decider::count.
local function count(one, gauges)
  if not is_debit(one) and not is_booked(one) or one.special.is_made then return end
  local fits = one.fit == 0
  local may_overdraw = one.special.overdraft == NONE and (one.entry.used or 0) <= one.capacity
    and one.special.step ~= reservations.SETTLE
  if not fits and not may_overdraw then return end
  spend_special(one)
  one.special.taken = MARK_COUNTED - one.special.taken
  if fits then return end
  if one.special.keyed then note_refused(one) end
  one.fit = special_fit(one, gauges)
  if one.fit == 0 then one.fit = 1 end
end

-- Reads the charges of a request, and brings their states to the present. If that can't be, nil and the reply.
local function read_charges(records, keys, bytes, at)
  local charges = {}
  while at <= #bytes do
    local key, group, mode, kind, hits, capacity, a, b, c, tag
    key, group, mode, kind, hits, capacity, a, b, c, tag, at = unpack(CHARGE, bytes, at)
    if kind == CALENDAR and (now < a or c <= now) then return nil, pack('<B', OTHER_TIME) end
    local record, failure = record_of(records, keys, key)
    if not record then return nil, failure end
    local entry = entry_of(record, tag)
    local scheduled = SCHEDULED <= mode
    if scheduled then mode = mode - SCHEDULED end
    local one = {
      record = record, entry = entry, group = group, mode = mode % MODES, hits = hits,
      capacity = capacity, a = a, b = b, c = c, fit = 0, special = false, schedule = false, back = 0,
    }
    if MODES <= mode then
      at, failure = read_special(records, keys, one, bytes, at, (mode - one.mode) / MODES)
      if not at then return nil, failure end
    end
    if scheduled then
      if one.special then one.special.is_simple = false end
      at = read_schedule(one, bytes, at)
      if not at then return nil, pack('<B', OTHER_TIME) end
    end
    if entry.kind == RAW then settle(entry, kind, a, b, one.schedule and one.schedule.past) end
    charges[#charges + 1] = one
  end
  return charges
end

-- Whether the request passes, which groups have all their hits, which lack hits that are no debits, and whether all debits
-- count. Mirrors Tally, Batch::counts_refused and lacks_debits_only.
local function tally(charges)
  local fits, refused, quotas, quotas_over = {}, false, 0, 0
  local lacks, counts = {}, true
  for n = 1, #charges do
    local one = charges[n]
    local group, over = one.group, one.fit ~= 0
    if fits[group] == nil then
      fits[group] = true
      if one.mode == QUOTA then quotas = quotas + 1 end
    end
    if over and not is_debit(one) then
      lacks[group] = true
      if one.mode ~= SHADOW then counts = false end
    end
    if over and fits[group] then
      fits[group] = false
      if one.mode == ENFORCE then refused = true end
      if one.mode == QUOTA then quotas_over = quotas_over + 1 end
    end
  end
  local admitted = not refused and (quotas == 0 or quotas_over < quotas)
  return admitted, fits, lacks, counts or admitted
end

-- The hits that do not come back of a charge whose hits do, below zero. Mirrors Charge::comes_back.
local function kept_back(one)
  local held = one.special and one.special.held
  if held and held.step ~= reservations.COUNT and held.step ~= reservations.RELEASE_ESTIMATES then return 0 end
  return min(one.hits + one.back, 0)
end

local function answer(one)
  local entry, special = one.entry, one.special
  local is_whole = special and not special.is_simple
  local remaining = is_whole and special_remaining(one)
    or max((special and special.open_now or one.capacity) - (entry.used or 0), 0)
  local reset_ms = reset(entry, one.a, one.b, one.c)
  local taken = special and special.taken or 0
  if one.hits < 0 then taken = taken + kept_back(one) end
  if special and special.keyed and special.keyed.is_retry then taken = RETRIED + special.keyed.age end
  return pack(ANSWER, one.fit, remaining, reset_ms, taken)
end

-- What there is to report of a request's charges; nothing if none has thresholds or a grace, or counts reservations.
local function notices(charges)
  local may_report, number, reply = false, 0, ''
  for n = 1, #charges do
    local one, special = charges[n], charges[n].special
    if special and (special.points or special.grace or special.held or special.tells_bonuses) then
      may_report = true
      local ends, left = grace_until(one), 0
      if special.grace and (ends ~= 0 or one.hits <= 0) then left = grace_left(one) end
      local held, settled = reservations.held(one), special.held and special.held.settled or 0
      if special.crossed ~= 0 or ends ~= 0 or left ~= 0 or held ~= 0 or settled ~= 0 or special.tells_bonuses then
        local bonuses = special.tells_bonuses and special.bonuses or NONE_OF_THEM
        number = number + 1
        reply = reply .. pack(NOTICE, n, special.crossed, ends, left, held, settled, #bonuses)
        for _, bonus in ipairs(bonuses) do
          reply = reply .. pack(USE, bonus.carried or 0, bonus.spent, bonus.expired or 0, bonus.taken or 0)
        end
      end
    end
  end
  return may_report and pack('<I2', number) .. reply or ''
end

-- The hits that charges did not get which are made in part; nothing if none may be.
local function parts(charges)
  local may_be, number, reply = false, 0, ''
  for n = 1, #charges do
    local special = charges[n].special
    if special and special.part ~= 0 then
      may_be = true
      local missed = special.got and charges[n].hits - special.got or 0
      if 0 < missed then number, reply = number + 1, reply .. pack(PART, n, missed) end
    end
  end
  return may_be and pack('<I2', number) .. reply or ''
end

-- A request of any kind.
local function decide_all(records, keys, bytes)
  local gauges, at = read_gauges(records, keys, bytes)
  if not gauges then return at end
  local charges, failure = read_charges(records, keys, bytes, at)
  if not charges then return failure end
  find_levels(gauges, charges)
  for n = 1, #charges do
    local one = charges[n]
    one.fit = one.special and special_fit(one, gauges)
      or fit_of(one.entry, one.hits, one.capacity, one.a, one.b)
  end
  local admitted, fits, lacks, counts = tally(charges)
  local grants = admitted and find_grants(charges)
  local reply = pack('<B', admitted and ADMITTED or REFUSED)
  for n = 1, #charges do
    local one = charges[n]
    local passes = admitted and fits[one.group]
    if passes and one.special and not one.special.is_simple then
      spend_special(one, grants)
    elseif passes then
      if one.hits < 0 then one.back = one.entry.used or 0 end
      charge(one.record, one.entry, one.hits, one.a, one.b, one.c)
    elseif not lacks[one.group] and (counts or is_booked(one)) then
      count(one, gauges)
    end
  end
  for n = 1, #charges do
    local one = charges[n]
    reply = reply .. answer(one)
    if one.hits < 0 then forget_level(one.record) end
  end
  for n = 1, #gauges do
    reply = reply .. pack('<B', gauges[n].level)
  end
  return reply .. notices(charges) .. parts(charges)
end

-- Decides the requests of a call, one after the other, and then writes what they have changed.
local function decide(keys, args)
  begin(args[1])
  local records, replies, deadlines = {}, { pack(ONE, now) }, args[2]
  local is_late = deadlines ~= '' and unpack(ONE, deadlines) < now
  for n = 3, #args do
    if is_late and unpack(ONE, deadlines, 1 + (n - 2) * ONE_LEN) < now then
      replies[n - 1] = pack('<B', LATE)
    else
      local bytes = args[n]
      replies[n - 1] = bytes:byte() == ONE_PLAIN and decide_one(records, keys, bytes)
        or decide_passing(records, keys, bytes) or decide_all(records, keys, bytes)
    end
  end
  for key, record in pairs(records) do
    if record.written then store(keys[key], record) end
  end
  return concat(replies)
end
