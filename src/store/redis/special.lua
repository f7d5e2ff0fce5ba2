-- What special charges and gauges need, between charge.lua and decide.lua: what is open, bonuses and overdraft.
-- Mirrors limit/means.rs, and of store/decide.rs what reads gauges.

local SPECIAL = '<I7BB'
local PRESSED = '<I2B'
local BONUS = '<I7I7Bc0'
local GAUGE = '<I2B'
local MARK = '<I2BI7I7'

-- As in script.rs.
local MODES = 4
local ALLOW = 2
local CLIP = 3

-- As in limit/mod.rs.
local COUNT_MAX = 4000000000000000

local special = {}

-- Reads what stands in a special charge after its tag, and what is spent of its bonuses.
function special.read(charge, bytes, at)
  if charge.mode < MODES then return end
  local pressed, bonuses
  charge.overdraft = math.floor(charge.mode / MODES)
  charge.mode = charge.mode % MODES
  charge.open, pressed, bonuses, at = unpack(SPECIAL, bytes, at)
  charge.pressed, charge.bonuses = {}, {}
  for n = 1, pressed do
    local press, levels = { hits = {} }
    press.gauge, levels, at = unpack(PRESSED, bytes, at)
    for level = 1, levels do
      press.hits[level], at = unpack(ONE, bytes, at)
    end
    charge.pressed[n] = press
  end
  for _ = 1, bonuses do
    local bonus = {}
    bonus.amount, bonus.ends, bonus.id, at = unpack(BONUS, bytes, at)
    if now < bonus.ends then
      local entry = entry_of(charge.record, '+' .. charge.tag .. '|' .. bonus.id)
      bonus.entry, bonus.spent = entry, #entry.body == ONE_LEN and unpack(ONE, entry.body) or 0
      -- A bonus that was prolonged is not given anew.
      if 0 < bonus.spent and entry.expiry < bonus.ends then
        entry.expiry, charge.record.written = bonus.ends, true
      end
      charge.bonuses[#charge.bonuses + 1] = bonus
    end
  end
end

-- Finds the level of each gauge, and keeps it. Mirrors Decider::read_gauges.
function special.read_gauges(bytes, charges, records)
  local gauges, at = {}, 1
  while at <= #bytes do
    local gauge, marks, key = { level = 0, marks = {} }
    key, marks, at = unpack(GAUGE, bytes, at)
    local record = records[key] or load(KEYS[key])
    records[key] = record
    local entry = entry_of(record, LEVEL)
    local known = entry.body:byte() or 0
    for n = 1, marks do
      local mark, index = {}
      index, mark.level, mark.rise, mark.fall, at = unpack(MARK, bytes, at)
      mark.charge = charges[index]
      local point = mark.level <= known and mark.fall or mark.rise
      if point < used(mark.charge, mark.charge.entry) then
        gauge.level = math.max(gauge.level, mark.level)
      end
      gauge.marks[n] = mark
    end
    if gauge.level ~= known then
      entry.body = gauge.level == 0 and '' or string.char(gauge.level)
      entry.expiry, record.written = 0, true
    end
    gauges[#gauges + 1] = gauge
  end
  return gauges
end

-- When a gauge will stand below a level that it has now. Mirrors Decider::falls_below_ms.
local function falls_below(gauge, level)
  local latest = now
  for _, mark in ipairs(gauge.marks) do
    if level <= mark.level and mark.level <= gauge.level then
      latest = math.max(latest, falls_to(mark.charge, mark.charge.entry, mark.fall))
    end
  end
  return latest
end

-- What is open to a charge at a time from now on, if nobody spends until then.
local function open_at(charge, gauges, time)
  local open = charge.open
  for _, press in ipairs(charge.pressed) do
    local gauge = gauges[press.gauge]
    local level = gauge.level
    while now < time and 0 < level and falls_below(gauge, level) <= time do level = level - 1 end
    level = math.min(level, #press.hits)
    if 0 < level then open = math.min(open, press.hits[level]) end
  end
  return open
end

local function bonus_left(bonus)
  return math.max(bonus.amount - bonus.spent, 0)
end

local function base_left(charge)
  return math.max(charge.open_now - used(charge, charge.entry), 0)
end

-- Mirrors Means::remaining.
function special.remaining(charge)
  local sum = base_left(charge)
  for _, bonus in ipairs(charge.bonuses) do
    sum = math.min(sum + bonus_left(bonus), COUNT_MAX)
  end
  return sum
end

-- Mirrors Means::wait.
local function earliest(charge, gauges, need)
  local openings = { { from = now, hits = charge.open_now } }
  for _, press in ipairs(charge.pressed) do
    for level = 1, gauges[press.gauge].level do
      local from = falls_below(gauges[press.gauge], level)
      openings[#openings + 1] = { from = from, hits = open_at(charge, gauges, from) }
    end
  end
  local found, kept = NEVER, 0
  for first = #charge.bonuses + 1, 1, -1 do
    local bonus = charge.bonuses[first]
    kept = bonus and math.min(kept + bonus_left(bonus), COUNT_MAX) or 0
    local base = math.max(need - kept, 0)
    for _, opening in ipairs(openings) do
      if base <= opening.hits then
        local falls = falls_to(charge, charge.entry, opening.hits - base)
        local at = math.max(falls, opening.from)
        if not bonus or at < bonus.ends then found = math.min(found, at) end
      end
    end
  end
  return found
end

-- Mirrors Decider::ask.
function special.fit(charge, gauges)
  charge.open_now = open_at(charge, gauges, now)
  if charge.hits < 0 then return 0 end
  local overdrawn = charge.overdraft == ALLOW or charge.overdraft == CLIP
  local need = overdrawn and 1 or charge.hits
  if need <= special.remaining(charge) then return 0 end
  local at = earliest(charge, gauges, need)
  return at == NEVER and -1 or at - now
end

local function keep(charge, bonus, spent)
  if spent ~= bonus.spent then
    local entry = bonus.entry
    bonus.spent = spent
    entry.expiry = math.max(entry.expiry, bonus.ends)
    entry.body = spent == 0 and '' or pack(ONE, spent)
    charge.record.written = true
  end
end

-- Divides the hits of a charge between its bonuses, and returns what is for the limit itself. Mirrors
-- Means::divide.
function special.divide(charge)
  local bonuses, rest = charge.bonuses, math.abs(charge.hits)
  if charge.hits < 0 then
    for n = #bonuses, 1, -1 do
      local back = math.min(rest, bonuses[n].spent)
      keep(charge, bonuses[n], bonuses[n].spent - back)
      rest = rest - back
    end
    return -rest
  end
  local base = math.min(rest, base_left(charge))
  rest = rest - base
  for _, bonus in ipairs(bonuses) do
    local taken = math.min(rest, bonus_left(bonus))
    keep(charge, bonus, bonus.spent + taken)
    rest = rest - taken
  end
  if charge.overdraft == ALLOW then
    local room = math.max(COUNT_MAX - used(charge, charge.entry) - base, 0)
    base = base + math.min(rest, room)
  end
  return base
end
