-- Decides the batch, after charge.lua and special.lua, without which `special` is nil. Mirrors `decide` in
-- store/decide.rs.

local charges, records, fits, modes = {}, {}, {}, {}
for n = 3, #ARGV do
  local charge, rest = {}
  charge.key, charge.group, charge.mode, charge.hits, charge.capacity,
    charge.a, charge.b, charge.c, charge.tag, rest = unpack(CHARGE, ARGV[n])
  charge.kind = charge.tag:sub(1, 1)
  if charge.kind == 'c' and (now < charge.a or charge.c <= now) then
    return { 2, now }
  end
  local record = records[charge.key] or load(KEYS[charge.key])
  records[charge.key] = record
  local entry = entry_of(record, charge.tag)
  charge.record, charge.entry = record, entry
  settle(charge, entry)
  if special then special.read(charge, ARGV[n], rest) end
  if not charge.overdraft then
    local left, fit = math.max(charge.capacity - used(charge, entry), 0), 0
    if left < charge.hits then
      local at = charge.hits <= charge.capacity
        and falls_to(charge, entry, charge.capacity - charge.hits) or NEVER
      fit = at == NEVER and -1 or at - now
    end
    charge.fit, charge.remaining = fit, left
    fits[charge.group] = fits[charge.group] ~= false and fit == 0
  end
  modes[charge.group] = charge.mode
  charges[n - 2] = charge
end

local gauges
if special then
  gauges = special.read_gauges(ARGV[2], charges, records)
  for _, charge in ipairs(charges) do
    if charge.overdraft then
      charge.fit, charge.remaining = special.fit(charge, gauges), special.remaining(charge)
      fits[charge.group] = fits[charge.group] ~= false and charge.fit == 0
    end
  end
end

-- Mirrors Tally.
local refused, quotas, quotas_over = false, 0, 0
for group, fitting in ipairs(fits) do
  if modes[group] == 0 then
    refused = refused or not fitting
  elseif modes[group] == 1 then
    quotas = quotas + 1
    quotas_over = quotas_over + (fitting and 0 or 1)
  end
end
local admitted = not refused and (quotas == 0 or quotas_over < quotas)

for _, charge in ipairs(charges) do
  if admitted and fits[charge.group] and charge.hits ~= 0 then
    local entry, hits = charge.entry, charge.hits
    if charge.overdraft then hits = special.divide(charge) end
    if 0 < hits or hits < 0 and entry.body ~= '' then
      spend(charge, entry, hits)
      entry.expiry = expiry(charge, entry)
      charge.record.written = true
    end
    charge.remaining = charge.overdraft and special.remaining(charge)
      or math.max(charge.capacity - used(charge, entry), 0)
  end
end

local reply = { admitted and 1 or 0, now }
for _, charge in ipairs(charges) do
  reply[#reply + 1] = charge.fit
  reply[#reply + 1] = charge.remaining
  reply[#reply + 1] = reset(charge, charge.entry)
end
if gauges then
  for _, gauge in ipairs(gauges) do
    reply[#reply + 1] = gauge.level
  end
end
for key, record in pairs(records) do
  if record.written then store(KEYS[key], record) end
end
return reply
