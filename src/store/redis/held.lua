-- Reservations, between retries.lua and special.lua: hits that are held of a limit until they are settled or lapse. Mirrors
-- limit/held.rs and store/embedded/holdings.rs.
--
-- A charge for which reservations count as used says in SPECIAL what it does with them: nothing
-- besides; hold its hits instead of spending them; settle what is held, extend it or release it; or settle all of it. All but the first go on
-- after everything else but a schedule as RESERVED: for how long, and the id of the reservation.
-- An entry named `@`, tag holds as ONE the sum, and as HELD each reservation, the first to lapse first: until when, how many
-- hits, and its id.

local reservations = { COUNT = 1, HOLD = 2, SETTLE = 3, EXTEND = 4, SETTLE_ALL = 6 }

-- The hits in the mark of one that settles all of it: no other charge has them.
reservations.ALL_USED = -4503599627370496

do
  local RESERVED = '<I7c8'
  local HELD = '<I7I7c8'
  local HELD_LEN = 22
  local HELD_NAME = '@'

  -- As in pack.rs.
  local COUNT, HOLD, SETTLE, EXTEND, RELEASE, SETTLE_ALL = 1, 2, 3, 4, 5, 6

  -- As in store/reservation.rs.
  local HELD_MAX = 100

  -- What is held where reservations don't count.
  local NOTHING_HELD = { { from = 0, hits = 0 } }

  -- Where a reservation stands in an entry's body, when it lapses and what it holds; nil if it holds nothing.
  local function find_held(body, id)
    for at = ONE_LEN + 1, #body, HELD_LEN do
      local ends, hits, known = unpack(HELD, body, at)
      if known == id then return at, ends, hits end
    end
  end

  -- Drops what has lapsed of an entry.
  local function lapse(entry)
    local body = entry.body
    if body == '' then return end
    local sum, at = unpack(ONE, body)
    while at <= #body do
      local ends, hits = unpack(HELD, body, at)
      if now < ends then break end
      sum, at = sum - hits, at + HELD_LEN
    end
    entry.body = at <= #body and pack(ONE, sum) .. body:sub(at) or ''
  end

  -- Reads what a charge does with reservations, and what they hold; returns where it ends. Mirrors Charge::step and
  -- Decider::made_of_reservation.
  function reservations.read(one, bytes, at, step)
    local special = one.special
    local entry = entry_of(one.record, HELD_NAME .. one.entry.tag)
    if (#entry.body - ONE_LEN) % HELD_LEN ~= 0 then entry.body = '' end
    lapse(entry)
    local held = { step = step, entry = entry, life = 0, id = '', own = false, ends = 0, settled = 0 }
    if step == SETTLE_ALL then held.step, step = SETTLE, SETTLE end
    special.held = held
    if step ~= COUNT then
      held.life, held.id, at = unpack(RESERVED, bytes, at)
      local place, ends, hits = find_held(entry.body, held.id)
      if place then held.own, held.ends = hits, ends end
    end
    local keyed = special.keyed
    local is_retry = keyed and keyed.is_retry
    local is_other = step == HOLD and (is_retry and not held.own or not special.is_made and held.own)
      or step == EXTEND and not special.is_made and not held.own
    if is_other then
      if is_retry then keyed.is_retry, keyed.was_refused = false, false end
      held.is_conflict, special.is_made = true, true
    end
    return at
  end

  -- The hits that are held of a charge's limit.
  function reservations.held(one)
    local held = one.special and one.special.held
    return held and held.entry.body ~= '' and unpack(ONE, held.entry.body) or 0
  end

  -- The same without what the charge settles.
  function reservations.held_by_others(one)
    local held = one.special.held
    return reservations.held(one) - (held.step == SETTLE and held.own or 0)
  end

  -- What is held from now on, and from each lapse on, but for the reservation of an id. Mirrors Holdings::steps.
  local function held_steps(one, without)
    local held = one.special and one.special.held
    if not held or held.entry.body == '' then return NOTHING_HELD end
    local body, sum, steps = held.entry.body, 0, { { from = 0, hits = 0 } }
    for at = ONE_LEN + 1, #body, HELD_LEN do
      local ends, hits, id = unpack(HELD, body, at)
      if id ~= without then
        sum = sum + hits
        steps[#steps + 1] = { from = ends, hits = hits }
      end
    end
    for n = 1, #steps do
      sum = sum - steps[n].hits
      steps[n].hits = sum
    end
    return steps
  end

  -- When at most so much is used or held of a charge's limit. Mirrors Settled::falls_with_held_to_ms.
  function reservations.falls_to(one, used_max)
    local found = NEVER
    for _, step in ipairs(held_steps(one)) do
      if step.hits <= used_max then
        found = min(found, max(falls_to(one.entry, used_max - step.hits, one.a, one.b), step.from))
      end
    end
    return found
  end

  -- Whether there is no place for what a charge is to hold. Mirrors Decider::wait_for_place.
  function reservations.is_full(one)
    local held, keyed = one.special.held, one.special.keyed
    if keyed and keyed.was_refused then return false end
    return held and held.step == HOLD and HELD_MAX <= floor(#held.entry.body / HELD_LEN)
  end

  -- What is held now and later when a charge asks.
  function reservations.steps(one)
    local held = one.special.held
    if not held then return NOTHING_HELD end
    local steps = held_steps(one, held.step == SETTLE and held.id)
    if reservations.is_full(one) then table.remove(steps, 1) end
    return steps
  end

  -- Whether a charge fits because of its reservation. Mirrors Decider::fits_by_reservation.
  function reservations.fit(held)
    return held.step == SETTLE and held.own or held.step == EXTEND or held.step == RELEASE
  end

  -- Ends what a reservation holds.
  local function end_held(held)
    local body = held.entry.body
    local at, _, hits = find_held(body, held.id)
    if not at then return end
    local rest = body:sub(ONE_LEN + 1, at - 1) .. body:sub(at + HELD_LEN)
    held.entry.body = rest ~= '' and pack(ONE, unpack(ONE, body) - hits) .. rest or ''
  end

  -- Has a reservation hold hits. Mirrors Holdings::add.
  local function begin_held(held, hits, ends)
    local body = held.entry.body
    local place, sum = ONE_LEN + 1, body == '' and 0 or unpack(ONE, body)
    while place <= #body and unpack(HELD, body, place) <= ends do place = place + HELD_LEN end
    held.entry.body = pack(ONE, sum + hits) .. body:sub(ONE_LEN + 1, place - 1) .. pack(HELD, ends, hits, held.id)
      .. body:sub(place)
  end

  -- Does what a charge does with reservations; returns how many hits are to be spent, how many are forgiven, and whether those
  -- that the limit does not have count. Nil if none are. Mirrors Decider::reserve and Decider::settlement.
  function reservations.reserve(one, remaining, counts_all)
    local held, hits = one.special.held, one.hits
    local entry, own = held.entry, held.own
    end_held(held)
    held.own = false
    if held.step == HOLD then
      begin_held(held, hits, now + held.life)
    elseif held.step == EXTEND and own then
      begin_held(held, own, max(held.ends, now + held.life))
    end
    local last = #entry.body - HELD_LEN + 1
    if 0 < last then entry.expiry = unpack(HELD, entry.body, last) end
    one.record.written = true
    if held.step ~= SETTLE then return end
    local forgiven = 0
    if own and (hits < 0 or one.special.uses_all) then
      hits = max(own + hits, 0)
    elseif own and not counts_all then
      local most = min(hits, max(own, remaining))
      hits, forgiven = most, hits - most
    end
    if hits <= 0 then return end
    return hits, forgiven, own
  end
end
