-- What special charges and gauges need, between charge.lua and decide.lua: what is open, bonuses, overdraft and what
-- is taken ahead. Mirrors limit/allowance.rs, and of store/embedded/decide.rs what reads gauges.
--
-- A special charge goes on after its CHARGE as SPECIAL: how much of the capacity is open to it, how many hits
-- to take ahead, for hits that come back because they were spent in vain until when they count (else 0), how it is made once
-- (else 0; ONCES times the number of its part more, if it may be made in part), how many gauges press it, how many bonuses it has, and what it does with reservations (held.lua); for a charge that is made once by its number a TOKEN: the
-- number, and who made it; for one with an idempotency key a KEYED of retries.lua, for one that corrects a count ONE; for each of those gauges a PRESSED: which, how many levels, and as ONE what is open at
-- each; for each bonus, the soonest to end first, a BONUS: amount, end, id. One whose amount is MARKED more comes anew in each
-- period, and goes on as RECURRENCE: the number of its first period and of the present one, when that begins, until when to
-- keep what is spent, how much is carried into the next period at most, and how many times follow, as ONE each, at which
-- periods begin after the present one. Its entry holds a USE: the number of the period, the hits that were carried into it, those that are spent, and those that had
-- expired with the period before. A charge with MARKED hits more to take ahead reports how its bonuses stand.
--
-- A charge that puts something right of an earlier one has AMENDS more in what it does with reservations; amends.lua says what
-- follows then, and each of its bonuses ends with ONE, the hits that come back to it. One with ALONE more goes on before that
-- with a byte: which of its bonuses alone has its hits.
--
-- A charge that has thresholds says after its bonuses, as THRESHOLDS, how long they stay told (0: until their window ends)
-- and how many they are, and then for each, the lowest first, as POINT what it is in percent and the hits in use from
-- which on it is crossed. An entry named `%`, tag holds a POINT for each that was told: what it is in percent, more
-- by FELL if less was in use since, and until when it stays told whatever is in use.
-- A charge that has a grace then says, as HEAD, how many hits pass beyond the capacity, for how long after the first breach, and
-- how long after its end another grace may begin (0: when the window ends, or of a total when enough came back). An entry
-- named `^`, tag holds as ONE when it began, until another one may.
-- A charge whose amount follows a schedule goes on as SCHEDULE: since when and until when the numbers before it hold, the
-- slowest rate of a bucket (for others their window), and how many stretches there were before and will be. Each before
-- is a PAIR: from when, and a bucket's rate; each after a HEAD: from when, how much is open, a bucket's rate; and for a
-- charge with a grace, as ONE, how many hits pass beyond that then.
--
-- A GAUGE says which of the keys keeps its level, and how many MARKs follow. A MARK is:
--            charge    which of the charges tells the use
--            level, rise, fall: it stands at this level once more than `rise` is in use, and does until
--                      each mark of this level or above has at most `fall` in use

local amends = { AMENDS = 16, ALONE = 32 }

local SPECIAL = '<I7I7I7BI2BB'
local TOKEN = '<I7c8'
local PRESSED = '<I2B'
local BONUS = '<I7I7Bc0'
local RECURRENCE = '<I7I7I7I7I7B'
local USE = '<I7I7I7I7'
local USE_LEN = 28
local THRESHOLDS = '<I7B'
local POINT = '<I2I7'
local POINT_LEN = 9
local SCHEDULE = '<I7I7I7BB'
local GAUGES = '<I2'
local GAUGE = '<I2I2'

-- Mirror those of src/limit/sliding.rs.
local SLOTS, SLOTS_SHORT, WINDOW_SHORT = 60, 20, 1000

local MARK = '<I2BI7I7'
local MARK_LEN = 17

local NONE, ALLOW, CLIP, OWED, GRACED = 1, 2, 3, 4, 5

-- For charges without gauges or bonuses; never written.
local NONE_OF_THEM = {}

-- What the name of an entry begins with that holds what was told.
local TOLD = '%'

local FELL = 32768

-- As in limit/thresholds.rs.
local THRESHOLDS_MAX = 8

-- The same of a grace that has begun.
local GRACE = '^'

-- As in pack.rs.
local ONCES = 8
local OVERDRAFTS = 5
local DEBITS = 3
local COUNTED, BOOKED = 1, 2

-- As in reply.rs.
local MARK_COUNTED = 4503599627370496

-- As in pack.rs.
local MARKED = 4503599627370496

-- As in limit/recurrence.rs.
local UNITS = 8

-- As in limit/mod.rs, limit/lending.rs and store/batch.rs.
local COUNT_MAX = 4000000000000000
local LENT_SHARE = 8
local TOKEN_LIFE_MS = 3600000

-- Finds whether a charge with a number has been made. Mirrors Record::has_seen.
local function find_seen(one, name)
  local special, entry = one.special, entry_of(one.record, '*' .. name .. one.entry.tag)
  special.seen = entry
  special.is_made = #entry.body == ONE_LEN and special.number <= unpack(ONE, entry.body)
  special.prolongs = not special.is_made
end

-- Remembers that a charge with a number has been made. Mirrors Record::see.
local function see(one)
  local entry = one.special.seen
  entry.body, entry.expiry, one.record.written = pack(ONE, one.special.number), now + TOKEN_LIFE_MS, true
end

-- Reads the grace of a charge; returns where it ends.
local function read_grace(one, bytes, at)
  local grace = { over = 0, lasts = 0, pause = 0, entry = entry_of(one.record, GRACE .. one.entry.tag), since = false }
  grace.over, grace.lasts, grace.pause, at = unpack(HEAD, bytes, at)
  if #grace.entry.body == ONE_LEN then grace.since = unpack(ONE, grace.entry.body) end
  one.special.grace = grace
  return at
end

-- When a grace ends.
local function grace_ends(grace)
  return grace.since and grace.since + grace.lasts or NEVER
end

-- What a grace adds to what is open now. Mirrors Allowance::grace_now.
local function grace_now(one)
  local grace = one.special.grace
  if not grace or one.special.open_now < one.capacity or grace_ends(grace) <= now then return 0 end
  return grace.over
end

-- What is left of it. Mirrors Allowance::grace_left.
local function grace_left(one)
  return max(one.capacity + grace_now(one) - max(one.entry.used or 0, one.capacity), 0)
end

-- Adds what a grace allows beyond a capacity, now and later. Mirrors Allowance::add_grace.
local function add_grace(grace, available, whole, over)
  local from = NEVER
  for _, capacity in ipairs(available) do
    if whole <= capacity.hits then from = min(from, capacity.from) end
  end
  if from == NEVER then return end
  local hits = whole + over
  available[#available + 1] = { from = from, hits = hits, ends = grace_ends(grace) }
  if grace.since and grace.entry.expiry ~= 0 then
    available[#available + 1] = { from = max(from, grace.entry.expiry), hits = hits, ends = NEVER }
  end
end

-- Keeps the grace that has begun by a charge. Mirrors Limit::breach.
local function keep_grace(one)
  local grace, state = one.special.grace, one.entry
  local entry, used = grace.entry, state.used or 0
  if not grace.since and one.capacity < used then
    grace.since, entry.body, one.record.written = now, pack(ONE, now), true
    if 0 < grace.pause then
      entry.expiry = now + grace.lasts + grace.pause
    else
      entry.expiry = state.kind == TOTAL and 0 or state.expiry
    end
  elseif grace.since and state.kind == TOTAL and used <= max(one.capacity - grace.over, 0) then
    grace.since, entry.body, one.record.written = false, '', true
  end
end

-- Until when more than the limit of a charge is in use by a grace; 0 if it is not.
local function grace_until(one)
  local grace = one.special.grace
  if not grace or not grace.since or grace_ends(grace) <= now then return 0 end
  return one.capacity < (one.entry.used or 0) and grace_ends(grace) or 0
end

-- The name of the entry that counts what is spent of a bonus.
local function bonus_tag(one, bonus)
  return '+' .. one.entry.tag .. '|' .. bonus.id
end

-- What is kept of a recurring bonus, brought to its present period: the number of its period, and hits as of a USE. Mirrors
-- Recurrence::renewed.
local function renewed_use(bonus, body, first, number)
  local known, carried, spent, expired = first, 0, 0, 0
  if #body == USE_LEN then
    local period, kept_carried, kept_spent, kept_expired = unpack(USE, body)
    if period % UNITS == number % UNITS then
      known, carried, spent, expired = period, kept_carried, kept_spent, kept_expired
    end
  end
  local periods = floor((number - known) / UNITS)
  if 0 < periods then
    local left = max(bonus.each + carried - spent, 0)
    carried = min(left, bonus.cap)
    expired = left - carried
    if 1 < periods then
      left = bonus.each + min(carried + (periods - 2) * bonus.each, bonus.cap)
      carried = min(left, bonus.cap)
      expired = left - carried
    end
    known, spent = number, 0
  end
  return known, carried, spent, expired
end

-- Brings a recurring bonus to its present period, and keeps what is spent of it as long as it asks for now: one that was
-- edited is not given anew. Mirrors Decider::prolong_bonuses.
local function renew(one, bonus, first, number)
  local entry = bonus.entry
  local known, carried, spent, expired = renewed_use(bonus, entry.body, first, number)
  bonus.number, bonus.carried, bonus.expired = known, carried, expired
  bonus.amount, bonus.spent = bonus.each + carried, spent
  if #entry.body == USE_LEN and entry.expiry < bonus.keeps and one.special.prolongs then
    local _, anew_carried, anew_spent = renewed_use(bonus, '', first, number)
    if carried ~= anew_carried or spent ~= anew_spent then
      entry.expiry, one.record.written = bonus.keeps, true
    end
  end
end

-- Reads how a bonus recurs; returns where it ends, or nil if it was worked out for another time.
local function read_recurrence(one, bonus, bytes, at)
  local first, number, starts, keeps, cap, times
  first, number, starts, keeps, cap, times, at = unpack(RECURRENCE, bytes, at)
  local renews = {}
  for n = 1, times do
    renews[n], at = unpack(ONE, bytes, at)
  end
  if now < starts or renews[1] <= now then return end
  bonus.starts = starts
  bonus.each, bonus.cap, bonus.renews = bonus.amount - MARKED, cap, renews
  bonus.last, bonus.keeps = bonus.ends, min(keeps, bonus.ends)
  bonus.ends = min(renews[1], bonus.ends)
  if now < bonus.last then
    bonus.entry = entry_of(one.record, bonus_tag(one, bonus))
    renew(one, bonus, first, number)
  end
  return at
end

-- Reads the next bonus of a charge, and what is spent of it if it hasn't ended; returns where it ends, or nil if it was worked
-- out for another time.
local function read_bonus(one, bytes, at)
  local bonus = { amount = 0, ends = 0, id = '', entry = false, spent = 0 }
  bonus.amount, bonus.ends, bonus.id, at = unpack(BONUS, bytes, at)
  if MARKED <= bonus.amount then
    at = read_recurrence(one, bonus, bytes, at)
    if not at then return end
  elseif now < bonus.ends then
    local entry = entry_of(one.record, bonus_tag(one, bonus))
    bonus.entry, bonus.spent = entry, #entry.body == ONE_LEN and unpack(ONE, entry.body) or 0
    -- A bonus that was prolonged is not given anew. What has been made before changes nothing.
    if 0 < bonus.spent and entry.expiry < bonus.ends and one.special.prolongs then
      entry.expiry, one.record.written = bonus.ends, true
    end
  end
  if one.special.amends then at = amends.read_bonus(one, bonus, bytes, at) end
  if bonus.entry then one.special.bonuses[#one.special.bonuses + 1] = bonus end
  return at
end

-- Reads what stands in a special charge after its tag, and what is spent of its bonuses; returns where it ends. If that can't
-- be, nil and the reply.
local function read_special(records, keys, one, bytes, at, code)
  local open, ahead, ends, once, pressed, bonuses, step
  open, ahead, ends, once, pressed, bonuses, step, at = unpack(SPECIAL, bytes, at)
  local is_simple = code == NONE and ahead + ends + once + bonuses + step == 0
  local is_alone = amends.ALONE <= step
  step = step % amends.ALONE
  local has_amends = amends.AMENDS <= step
  step = step % amends.AMENDS
  -- What most charges don't have is absent, so that the table stays small.
  local special = {
    overdraft = (code - 1) % OVERDRAFTS + 1, debit = floor((code - 1) / OVERDRAFTS) % DEBITS,
    open = open, open_now = open, ahead = ahead, taken = 0, part = floor(once / ONCES), step = step, prolongs = true,
    pressed = pressed == 0 and NONE_OF_THEM or {}, bonuses = bonuses == 0 and NONE_OF_THEM or {}, crossed = 0, bytes = bytes,
    -- Nothing is special but what is open.
    is_simple = is_simple,
  }
  one.special = special
  if ends ~= 0 then special.ends = ends end
  if step == reservations.SETTLE_ALL then special.step, special.uses_all = reservations.SETTLE, true end
  if MARKED <= ahead then special.ahead, special.tells_bonuses = ahead - MARKED, true end
  if is_alone then special.alone, at = bytes:byte(at), at + 1 end
  if has_amends then at = amends.read(one, bytes, at) end
  once = once % ONCES
  if once == ONCE_TOKEN then
    local name
    special.number, name, at = unpack(TOKEN, bytes, at)
    find_seen(one, name)
  elseif once == ONCE_CORRECTION then
    at = read_correction(one, bytes, at)
  elseif once ~= 0 then
    local keyed, failure = read_keyed(records, keys, one, bytes, at, once)
    if not keyed then return nil, failure end
    at = keyed
  end
  for n = 1, pressed * 3, 3 do
    local gauge, levels
    gauge, levels, at = unpack(PRESSED, bytes, at)
    special.pressed[n], special.pressed[n + 1], special.pressed[n + 2] = gauge, levels, at
    at = at + levels * ONE_LEN
  end
  for n = 1, bonuses do
    local live = #special.bonuses
    at = read_bonus(one, bytes, at)
    if not at then return nil, pack('<B', OTHER_TIME) end
    if n == special.alone and live < #special.bonuses then special.only = special.bonuses[live + 1] end
  end
  if OVERDRAFTS * DEBITS < code then
    local points
    special.rearm, points, at = unpack(THRESHOLDS, bytes, at)
    special.points, special.point = bytes, at
    at = at + points * POINT_LEN
    special.past_points = at
  end
  if special.overdraft == GRACED then
    special.overdraft = NONE
    at = read_grace(one, bytes, at)
  end
  if step ~= 0 then at = reservations.read(one, bytes, at, step) end
  return at
end

-- Reads the schedule of a charge; returns where it ends, or nil if it was worked out for another time. The stretches that come
-- stay packed, as only a refusal asks for them.
local function read_schedule(one, bytes, at)
  local from, ends, slowest, before, after
  from, ends, slowest, before, after, at = unpack(SCHEDULE, bytes, at)
  if now < from or ends <= now then return end
  local past = 0 < before and {}
  for n = 1, before do
    local began, rate
    began, rate, at = unpack(PAIR, bytes, at)
    past[n] = { ends = from, rate = rate }
    if 1 < n then past[n - 1].ends = began end
  end
  local is_graced = one.special and one.special.grace and true
  one.schedule = {
    slowest = slowest, past = past, ends = after == 0 and NEVER or ends,
    bytes = bytes, later = at, number = after, is_graced = is_graced,
  }
  return at + after * (HEAD_LEN + (is_graced and ONE_LEN or 0))
end

-- Reads the gauges of a request; returns them and where they end. Their marks stay packed. If that can't be, nil and the reply.
local function read_gauges(records, keys, bytes)
  local gauges, count, at = {}, unpack(GAUGES, bytes, 2)
  for n = 1, count do
    local key, marks
    key, marks, at = unpack(GAUGE, bytes, at)
    local record, failure = record_of(records, keys, key)
    if not record then return nil, failure end
    gauges[n] = { level = 0, record = record, bytes = bytes, marks = at, past_marks = at + marks * MARK_LEN, charges = false }
    at = gauges[n].past_marks
  end
  return gauges, at
end

-- Finds the level of each gauge, and keeps it. Mirrors Decider::read_gauges.
local function find_levels(gauges, charges)
  for n = 1, #gauges do
    local gauge = gauges[n]
    local entry = entry_of(gauge.record, LEVEL)
    local known, found = entry.body:byte() or 0, 0
    gauge.charges = charges
    for at = gauge.marks, gauge.past_marks - 1, MARK_LEN do
      local index, level, rise, fall = unpack(MARK, gauge.bytes, at)
      local one, point = charges[index], level <= known and fall or rise
      if found < level and point < (one.entry.used or 0) + reservations.held(one) then found = level end
    end
    gauge.level = found
    if found ~= known then
      entry.body = found == 0 and '' or string.char(found)
      entry.expiry, gauge.record.written = 0, true
    end
  end
end

-- When a gauge will stand below a level that it has now. Mirrors Decider::falls_below_ms.
local function falls_below(gauge, level)
  local latest = now
  for at = gauge.marks, gauge.past_marks - 1, MARK_LEN do
    local index, of, _, fall = unpack(MARK, gauge.bytes, at)
    if level <= of and of <= gauge.level then
      latest = max(latest, reservations.falls_to(gauge.charges[index], fall))
    end
  end
  return latest
end

-- What is open to a charge at a time from now on of so much, if nobody spends until then; without a time, at the levels as
-- found.
local function open_at(special, gauges, time, open)
  local pressed = special.pressed
  for n = 1, #pressed, 3 do
    local gauge = gauges[pressed[n]]
    local level = gauge.level
    while time and 0 < level and falls_below(gauge, level) <= time do level = level - 1 end
    level = min(level, pressed[n + 1])
    if 0 < level then
      local hits = unpack(ONE, special.bytes, pressed[n + 2] + (level - 1) * ONE_LEN)
      open = min(open, hits)
    end
  end
  return open
end

local function bonus_left(bonus)
  return max(bonus.amount - bonus.spent, 0)
end

local function base_left(one)
  return max(one.special.open_now - (one.entry.used or 0), 0)
end

-- Mirrors Allowance::left.
local function special_left(one)
  local sum = base_left(one)
  for _, bonus in ipairs(one.special.bonuses) do
    sum = min(sum + bonus_left(bonus), COUNT_MAX)
  end
  return sum
end

-- Mirrors Allowance::remaining.
local function special_remaining(one)
  local left = special_left(one)
  return one.special.held and max(left - reservations.held_by_others(one), 0) or left
end

-- The hits that pass now, by a grace too. Mirrors Allowance::left.
local function left_now(one)
  local left = special_left(one) + grace_left(one)
  return one.special.held and max(left - reservations.held_by_others(one), 0) or left
end

-- How many of its hits a charge can take that may be made in part, or has taken before.
local function left_of(one)
  local keyed = one.special.keyed
  if keyed and keyed.is_retry then return keyed.granted end
  return min(one.hits, left_now(one))
end

-- When so much will be left of an entry with what is `available` of it then, from a time on from which no more than that is
-- held. Mirrors Allowance::earliest_ms.
local function earliest_from(entry, bonuses, need, available, a, b, held)
  local found, kept = NEVER, 0
  for first = #bonuses + 1, 1, -1 do
    local bonus = bonuses[first]
    kept = bonus and min(kept + bonus_left(bonus), COUNT_MAX) or 0
    local wanted = (0 < kept and max(need, 1) or need) + held.hits
    local base = max(wanted - kept, 0)
    for _, capacity in ipairs(available) do
      if base <= capacity.hits then
        local falls = base == 0 and 0 < kept and now or falls_to(entry, capacity.hits - base, a, b)
        local at = max(falls, capacity.from, held.from)
        if (not bonus or at < bonus.ends) and at < capacity.ends then found = min(found, at) end
      end
    end
  end
  return found
end

-- When so much will be left, before `ends`, whatever is held now and later. Mirrors Allowance::wait.
local function earliest_of(entry, bonuses, need, available, a, b, ends, held)
  local found = NEVER
  for n = 1, #held do
    found = min(found, earliest_from(entry, bonuses, need, available, a, b, held[n]))
  end
  return found < ends and found or NEVER
end

-- The bonuses as they will be at a time at which one of them comes anew, the soonest to end first. Mirrors BonusLeft::at.
local function renewed(bonuses, at)
  local later = {}
  for n, bonus in ipairs(bonuses) do
    local one = { amount = bonus.amount, spent = bonus.spent, ends = bonus.ends, n = n }
    for _, renews in ipairs(bonus.renews or {}) do
      if renews <= at then
        one.amount, one.spent, one.ends = bonus.each + min(bonus_left(one), bonus.cap), 0, bonus.last
      end
    end
    if at < one.ends then later[#later + 1] = one end
  end
  table.sort(later, function(one, other)
    if one.ends ~= other.ends then return one.ends < other.ends end
    return one.n < other.n
  end)
  return later
end

-- When so much will be left once one of the bonuses comes anew. Mirrors Allowance::wait.
local function earliest_renewed(entry, bonuses, need, available, a, b, ends, held)
  local found, times = NEVER, {}
  for _, bonus in ipairs(bonuses) do
    for _, renews in ipairs(bonus.renews or {}) do
      times[renews] = true
    end
  end
  for time in pairs(times) do
    local later = {}
    for n, capacity in ipairs(available) do
      later[n] = { from = max(capacity.from, time), hits = capacity.hits, ends = capacity.ends }
    end
    found = min(found, earliest_of(entry, renewed(bonuses, time), need, later, a, b, ends, held))
  end
  return found
end

-- When so much will be left in one of the stretches that come. Mirrors fit_on_schedule.
local function earliest_later(one, gauges, need, held)
  local entry, special, schedule = one.entry, one.special, one.schedule
  local at, rate, debt = entry.ends, one.a, entry.count
  local bytes, next_at = schedule.bytes, schedule.later
  for n = 1, schedule.number do
    local from, open, next_rate, over
    from, open, next_rate, next_at = unpack(HEAD, bytes, next_at)
    if schedule.is_graced then over, next_at = unpack(ONE, bytes, next_at) end
    local ends = n < schedule.number and unpack(ONE, bytes, next_at) or NEVER
    local then_entry = entry
    if entry.kind == BUCKET then
      if entry.used then
        debt = owed(at, debt, from, rate)
        then_entry = new_entry('', 0, '')
        then_entry.kind, then_entry.ends, then_entry.count = BUCKET, from, debt
        then_entry.used = debt ~= 0 and ceil(debt / one.b)
      end
      at, rate = from, next_rate
    end
    local available = { { from = from, hits = open_at(special, gauges, from, open), ends = NEVER } }
    -- What is not all open there comes with nothing beyond it.
    if special.grace then add_grace(special.grace, available, open, over) end
    local found = earliest_of(then_entry, renewed(special.bonuses, from), need, available, next_rate, one.b, ends, held)
    found = min(found, earliest_renewed(then_entry, special.bonuses, need, available, next_rate, one.b, ends, held))
    if found ~= NEVER then return found end
  end
  return NEVER
end

-- When so much will be left.
local function earliest(one, gauges, need)
  local special, schedule = one.special, one.schedule
  local available = { { from = now, hits = special.open_now, ends = NEVER } }
  for n = 1, #special.pressed, 3 do
    local gauge = gauges[special.pressed[n]]
    for level = 1, gauge.level do
      local from = falls_below(gauge, level)
      available[#available + 1] = { from = from, hits = open_at(special, gauges, from, special.open), ends = NEVER }
    end
  end
  if special.grace then add_grace(special.grace, available, one.capacity, special.grace.over) end
  local ends, held = schedule and schedule.ends or NEVER, reservations.steps(one)
  local found = earliest_of(one.entry, special.bonuses, need, available, one.a, one.b, ends, held)
  found = min(found, earliest_renewed(one.entry, special.bonuses, need, available, one.a, one.b, ends, held))
  return found == NEVER and schedule and earliest_later(one, gauges, need, held) or found
end

-- Mirrors Decider::ask.
local function special_fit(one, gauges)
  local special = one.special
  special.open_now = open_at(special, gauges, nil, special.open)
  if special.is_simple and one.hits <= max(special.open_now - (one.entry.used or 0), 0) then return 0 end
  if special.keyed and special.keyed.is_conflict then return CONFLICT end
  local held = special.held
  if held and held.is_conflict then return CONFLICT end
  local was_refused = special.keyed and special.keyed.was_refused
  local holds = held and reservations.holds(held)
  if one.hits < 0 or special.overdraft == OWED and not holds or special.is_made and not was_refused then return 0 end
  if held and reservations.fit(held) then return 0 end
  if special.alone then
    local most = special.only and min(bonus_left(special.only), special_remaining(one)) or 0
    return one.hits <= most and 0 or -1
  end
  local need, remaining = was_refused and 0 or one.hits + (held and held.estimated or 0), special_remaining(one)
  local by_others = held and reservations.held_by_others(one) or 0
  if need == 0 then
    -- Nothing always fits, but a peek finds out whether more is in use than is open.
    local peeks = special.debit == COUNTED or was_refused and special.overdraft == NONE
    local used = (one.entry.used or 0) + by_others
    local over = peeks and special.open_now + grace_now(one) < used
    if not over or 0 < remaining then return 0 end
  else
    local is_least = special.overdraft == ALLOW or special.overdraft == CLIP or special.part ~= 0
    if not holds and is_least then need = 1 end
    local is_full = held and reservations.is_full(one)
    if not is_full and need <= left_now(one) then return 0 end
  end
  local at = earliest(one, gauges, need)
  return at == NEVER and -1 or at - now
end

local function keep(one, bonus, spent)
  if spent ~= bonus.spent then
    local entry = bonus.entry
    bonus.spent = spent
    entry.expiry = max(entry.expiry, bonus.keeps or bonus.ends)
    if bonus.renews then
      entry.body = pack(USE, bonus.number, bonus.carried, spent, bonus.expired)
    else
      entry.body = spent == 0 and '' or pack(ONE, spent)
    end
    one.record.written = true
  end
end

-- Divides hits of a charge between its bonuses, and returns what is for the limit itself. Mirrors
-- Allowance::divide.
local function special_divide(one, hits, overdraft)
  local bonuses, rest = one.special.bonuses, math.abs(hits)
  if hits < 0 and one.special.amends then return -amends.put_back(one, rest) end
  if hits < 0 and one.special.keyed and one.special.keyed.once == ONCE_UNDO then return -amends.put_back_undone(one, rest) end
  if hits < 0 then
    for n = #bonuses, 1, -1 do
      local back = min(rest, bonuses[n].spent)
      keep(one, bonuses[n], bonuses[n].spent - back)
      rest = rest - back
    end
    return -rest
  end
  if one.special.alone then
    local only = one.special.only
    if only then
      only.taken = min(rest, bonus_left(only))
      keep(one, only, only.spent + only.taken)
    end
    return 0
  end
  if overdraft == CLIP then
    local passing = min(rest, special_remaining(one))
    one.special.taken, rest = passing - rest, passing
  end
  local base = min(rest, base_left(one))
  rest = rest - base
  for _, bonus in ipairs(bonuses) do
    local taken = min(rest, bonus_left(bonus))
    bonus.taken = taken
    keep(one, bonus, bonus.spent + taken)
    rest = rest - taken
  end
  if overdraft == ALLOW or overdraft == OWED then
    local room = max(COUNT_MAX - (one.entry.used or 0) - base, 0)
    base = base + min(rest, room)
  elseif overdraft == NONE then
    base = base + min(rest, grace_left(one))
  end
  return base
end

-- What a charge spends of the limit itself; nil if it spends nothing.
local function special_spending(one)
  local special = one.special
  local overdraft = special.overdraft
  if overdraft == NONE and special.debit ~= 0 then overdraft = ALLOW end
  local held = special.held
  if not held or held.step == reservations.COUNT or reservations.estimate(one) then
    return special_divide(one, special.got or one.hits, overdraft)
  end
  local counts_all = special.overdraft == ALLOW or special.overdraft == OWED
  local hits, forgiven, own = reservations.reserve(one, special_remaining(one), counts_all)
  if not hits then return end
  local base = special_divide(one, hits, own and ALLOW or overdraft)
  held.settled = hits + special.taken
  special.taken = special.taken - forgiven
  return base
end

-- Takes hits ahead, for a lease: they count one slot longer. Mirrors Limit::lends and Limit::charge_ahead.
local function take_ahead(one)
  local special, entry = one.special, one.entry
  if one.hits <= 0 or special.taken ~= 0 or special.debit ~= 0 or special.part ~= 0 or entry.kind ~= SLIDING or not entry.used then return end
  local lends = floor(max(one.capacity - entry.used, 0) / LENT_SHARE)
  special.taken = min(special.ahead, lends)
  if 0 < special.taken then
    add(entry, special.taken, slot_last(one.b) + one.b)
    entry.body, entry.expiry, one.record.written = false, expiry(entry, one.a), true
  end
end

-- What was told of thresholds: for each, in percent, until when it stays told, and whether less was in use since.
local function read_told(body)
  local untils, falls = {}, {}
  for at = 1, #body - POINT_LEN + 1, POINT_LEN do
    local percent, stays = unpack(POINT, body, at)
    untils[percent % FELL], falls[percent % FELL] = stays, FELL <= percent
  end
  return untils, falls
end

-- Reports the thresholds that a charge has crossed, where `used` was in use before. Mirrors Limit::tell and
-- Limit::told_expiry_ms.
local function tell(one, used)
  local special, state = one.special, one.entry
  local bytes, used_now = special.points, state.used or 0
  local entry = find_entry(one.record, TOLD .. state.tag)
  -- Mostly nothing was told, and nothing is to be told.
  if not entry or entry.body == '' then
    if special.point == special.past_points then return end
    local _, lowest = unpack(POINT, bytes, special.point)
    if used_now < lowest or used_now <= used then return end
  end
  entry = entry or entry_of(one.record, TOLD .. state.tag)
  local untils, falls = read_told(entry.body)
  local kept, last, bit = '', 0, 1
  for at = special.point, special.past_points - 1, POINT_LEN do
    local percent, hits = unpack(POINT, bytes, at)
    local stays, fell = untils[percent], falls[percent]
    local is_told = stays and (now < stays or not fell and hits <= used)
    if is_told then
      fell = fell or min(used, used_now) < hits
    elseif hits <= used_now and used < used_now then
      special.crossed = special.crossed + bit
      is_told, fell, stays = true, false, special.rearm == 0 and state.ends or now + special.rearm
    end
    if is_told then
      kept, last = kept .. pack(POINT, percent + (fell and FELL or 0), stays), max(last, stays)
    end
    untils[percent], bit = nil, bit * 2
  end
  -- What another edit of the policy has told, which may still be in force elsewhere.
  local others = 0
  for at = 1, #entry.body - POINT_LEN + 1, POINT_LEN do
    local percent, stays = unpack(POINT, entry.body, at)
    if untils[percent % FELL] and now < stays and others < THRESHOLDS_MAX then
      others, kept, last = others + 1, kept .. pack(POINT, percent, stays), max(last, stays)
    end
  end
  local ends = last
  if state.used then
    -- As long as the state may be there, whatever a schedule does.
    local slowest = one.schedule and one.schedule.slowest or one.a
    ends = state.kind == TOTAL and 0 or max(last, expiry(state, slowest))
  end
  if kept ~= entry.body or kept ~= '' and ends ~= entry.expiry then
    entry.body, entry.expiry, one.record.written = kept, ends, true
  end
end

-- The end of the slot of a sliding window that has hits which were added to the one that ends at `last`: another one if slots
-- were wider. Mirrors Slots::slot_of.
local function slot_of(entry, last, window)
  local found, widest = entry.ends, ceil(window / (window <= WINDOW_SHORT and SLOTS_SHORT or SLOTS))
  for at = #entry.log - PAIR_LEN + 1, 1, -PAIR_LEN do
    local ends = unpack(PAIR, entry.log, at)
    if ends < last then break end
    found = ends
  end
  return last <= found and found - last < widest and found or last
end

-- Takes hits out of the slot of a sliding window that ends then or of those before it, the youngest first. Mirrors
-- Slots::take_back.
local function take_out(entry, hits, last)
  local left, log = hits, ''
  local function less(ends, count)
    local taken = ends <= last and min(left, count) or 0
    left, entry.used = left - taken, entry.used - taken
    return count - taken
  end
  entry.count = less(entry.ends, entry.count)
  for at = #entry.log - PAIR_LEN + 1, 1, -PAIR_LEN do
    local ends, count = unpack(PAIR, entry.log, at)
    count = less(ends, count)
    if 0 < count then log = pack(PAIR, ends, count) .. log end
  end
  if entry.count == 0 and log ~= '' then
    local tail = #log - PAIR_LEN + 1
    entry.ends, entry.count = unpack(PAIR, log, tail)
    log = log:sub(1, tail - 1)
  end
  entry.log, entry.used = log, 0 < entry.used and entry.used
end

-- Takes hits back that were spent in vain. Mirrors Limit::take_back.
local function take_back(one, hits)
  local entry, ends, a, b = one.entry, one.special.ends, one.a, one.b
  local kind, used = entry.kind, entry.used
  if not used then return end
  if kind == SLIDING then
    take_out(entry, hits, now < ends and slot_of(entry, ends - a, a) or ends - a)
  elseif kind == BUCKET then
    local left = max(ends - now, 0) * a
    entry.count = max(entry.count - min(units(hits, b), left), 0)
    entry.used = entry.count ~= 0 and ceil(entry.count / b)
  elseif kind == TOTAL or entry.ends == ends then
    local count = max(used - hits, 0)
    entry.used = count ~= 0 and count
  end
  entry.body, entry.expiry, one.record.written = false, expiry(entry, a), true
end
