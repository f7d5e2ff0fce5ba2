-- Reservations, between retries.lua and special.lua: hits that are held of a limit until they are settled or lapse. Mirrors
-- limit/held.rs and store/embedded/holdings.rs.
--
-- A charge for which reservations count as used says in SPECIAL what it does with them: nothing
-- besides; hold its hits instead of spending them; settle what is held, extend it or release it; or settle all of it; hold more
-- than its hits as estimates, settle the oldest of those, or release some. All but the first go on after everything else but
-- a schedule as RESERVED: for how long, and the id of the reservation; of estimates the hits of each in place of the id, then as
-- ONE those of all; where some are settled, how many hits (0: the oldest estimate) in place of the time, and where some are
-- released, how many estimates.
-- An entry named `@`, tag holds as ONE the sum, and as HELD each reservation, the first to lapse first: until when, how many
-- hits, and its id. Estimates of the same hits that lapse together are one of them, with the hits of each as its id.

local reservations = {
  COUNT = 1, HOLD = 2, SETTLE = 3, EXTEND = 4, SETTLE_ALL = 6,
  ESTIMATE = 7, SETTLE_ESTIMATE = 8, RELEASE_ESTIMATES = 9,
}

-- The hits in the mark of one that settles all of it: no other charge has them.
reservations.ALL_USED = -4503599627370496

do
  local RESERVED = '<I7c8'
  local HELD = '<I7I7c8'
  local HELD_LEN = 22
  -- ONE and HELD.
  local FIRST_HELD = '<I7I7I7c8'
  local HELD_NAME = '@'

  -- As in pack.rs.
  local COUNT, HOLD, SETTLE, EXTEND, RELEASE, SETTLE_ALL = 1, 2, 3, 4, 5, 6
  local ESTIMATE, SETTLE_ESTIMATE, RELEASE_ESTIMATES = 7, 8, 9

  -- As in store/reservation.rs.
  local HELD_MAX = 100

  -- As in holdings.rs.
  local ESTIMATE_SLOTS = 60
  -- The hits of an estimate, in place of an id; those of reservations may be greater.
  local EACH = '<I7B'

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

  -- The hits of each estimate that holds so many together. Mirrors Holdings::oldest_estimate.
  local function each_of(id, hits)
    local each, more = unpack(EACH, id)
    return more == 0 and min(each, hits) or hits
  end

  -- Reads what a charge does with estimates; returns where it ends.
  local function read_estimate(held, bytes, at)
    held.life, held.id, at = unpack(RESERVED, bytes, at)
    if held.step == ESTIMATE then held.estimated, at = unpack(ONE, bytes, at) end
    local body = held.entry.body
    if held.step == SETTLE_ESTIMATE and body ~= '' then
      local sum, _, hits, id = unpack(FIRST_HELD, body)
      held.own = held.life == 0 and each_of(id, hits) or min(held.life, sum)
    end
    return at
  end

  -- Reads what a charge does with reservations, and what they hold; returns where it ends. Mirrors Charge::step and
  -- Decider::made_of_reservation.
  function reservations.read(one, bytes, at, step)
    local special = one.special
    local entry = entry_of(one.record, HELD_NAME .. one.entry.tag)
    if (#entry.body - ONE_LEN) % HELD_LEN ~= 0 then entry.body = '' end
    lapse(entry)
    local held = { step = step, entry = entry, life = 0, id = '', own = false, ends = 0, settled = 0, estimated = 0 }
    if step == SETTLE_ALL then held.step, step = SETTLE, SETTLE end
    special.held = held
    if ESTIMATE <= step then return read_estimate(held, bytes, at) end
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
    local settles = held.step == SETTLE or held.step == SETTLE_ESTIMATE
    return reservations.held(one) - (settles and held.own or 0)
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

  -- Whether a charge holds hits that it must have.
  function reservations.holds(held)
    return held.step == HOLD or held.step == ESTIMATE
  end

  -- Whether there is no place for what a charge is to hold. Mirrors Decider::wait_for_place.
  function reservations.is_full(one)
    local held, keyed = one.special.held, one.special.keyed
    if keyed and keyed.was_refused then return false end
    return held and reservations.holds(held) and HELD_MAX <= floor(#held.entry.body / HELD_LEN)
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
    local step = held.step
    local settles = step == SETTLE or step == SETTLE_ESTIMATE
    return settles and held.own or step == EXTEND or step == RELEASE
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

  -- Notes that there is something to write of what is held.
  local function keep_held(one)
    local entry = one.special.held.entry
    local last = #entry.body - HELD_LEN + 1
    if 0 < last then entry.expiry = unpack(HELD, entry.body, last) end
    one.record.written = true
  end

  -- Holds estimates. Mirrors Holdings::add_estimates.
  local function begin_estimate(held)
    local slot = max(floor(held.life / ESTIMATE_SLOTS), 1)
    local ends = ceil((now + held.life) / slot) * slot
    local body = held.entry.body
    for at = ONE_LEN + 1, #body, HELD_LEN do
      local known_ends, hits, id = unpack(HELD, body, at)
      if known_ends == ends and id == held.id then
        local sum = unpack(ONE, body) + held.estimated
        held.entry.body = pack(ONE, sum) .. body:sub(ONE_LEN + 1, at - 1) .. pack(HELD, ends, hits + held.estimated, id)
          .. body:sub(at + HELD_LEN)
        return
      end
    end
    begin_held(held, held.estimated, ends)
  end

  -- Ends what a settlement of estimates has found, the first to lapse first. Mirrors Holdings::end_oldest_estimates.
  local function end_oldest(held)
    local body, left, at = held.entry.body, held.own, ONE_LEN + 1
    local sum, rest = unpack(ONE, body) - left, ''
    while 0 < left and at <= #body do
      local ends, hits, id = unpack(HELD, body, at)
      local ended = min(hits, left)
      if ended < hits then rest = pack(HELD, ends, hits - ended, id) end
      left, at = left - ended, at + HELD_LEN
    end
    rest = rest .. body:sub(at)
    held.entry.body = rest ~= '' and pack(ONE, sum) .. rest or ''
  end

  -- Ends so many of the estimates at a place, and returns how many there were. Mirrors Holdings::reduce.
  local function reduce(held, at, count)
    local body = held.entry.body
    local ends, hits, id = unpack(HELD, body, at)
    local each = each_of(id, hits)
    local left = max(hits - each * count, 0)
    local rest = body:sub(ONE_LEN + 1, at - 1) .. (0 < left and pack(HELD, ends, left, id) or '')
      .. body:sub(at + HELD_LEN)
    held.entry.body = rest ~= '' and pack(ONE, unpack(ONE, body) - hits + left) .. rest or ''
    return each == 0 and 1 or floor(hits / each)
  end

  -- Ends estimates, the last to lapse first. Mirrors Holdings::end_youngest_estimates.
  local function end_youngest(held)
    local count = held.life
    for at = #held.entry.body - HELD_LEN + 1, ONE_LEN + 1, -HELD_LEN do
      local _, _, id = unpack(HELD, held.entry.body, at)
      if id == held.id and 0 < count then count = count - reduce(held, at, count) end
    end
  end

  -- Does what a charge does with estimates, and returns whether it does anything. Mirrors Decider::estimate.
  function reservations.estimate(one)
    local held = one.special.held
    if held.step < ESTIMATE then return false end
    if held.step == ESTIMATE then
      begin_estimate(held)
    elseif held.step == RELEASE_ESTIMATES then
      end_youngest(held)
    elseif held.own then
      end_oldest(held)
    end
    held.own = false
    keep_held(one)
    return true
  end

  -- Does what a charge does with reservations; returns how many hits are to be spent, how many are forgiven, and whether those
  -- that the limit does not have count. Nil if none are. Mirrors Decider::reserve and Decider::settlement.
  function reservations.reserve(one, remaining, counts_all)
    local held, hits = one.special.held, one.hits
    local own = held.own
    end_held(held)
    held.own = false
    if held.step == HOLD then
      begin_held(held, hits, now + held.life)
    elseif held.step == EXTEND and own then
      begin_held(held, own, max(held.ends, now + held.life))
    end
    keep_held(one)
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
