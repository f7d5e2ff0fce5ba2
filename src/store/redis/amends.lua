-- What is put right of a charge that another server refused, or made less of. Mirrors store/embedded/amends.rs.
--
-- A charge that does so has AMENDS more in its SPECIAL, and goes on as HEAD: when the earlier one was made, when it began a grace
-- (else 0), whether all of it comes back, and how many thresholds it has crossed; and as PERCENT each of these.
--
-- A charge with an idempotency key that takes hits of bonuses leaves an entry named `;`, tag beside its mark: a TAKEN for each, its
-- id and the hits. A refund for a retry, which knows no more than that, puts them back from there.

do
  local HEAD = '<I7I7BB'
  local PERCENT = '<I2'
  local TAKEN = '<Bc0I7'

  -- Reads what is put right; returns where it ends.
  function amends.read(one, bytes, at)
    local made = { at = 0, since = 0, crossed = {}, of_bonuses = 0 }
    local whole, number
    made.at, made.since, whole, number, at = unpack(HEAD, bytes, at)
    made.is_whole = whole == 1
    for _ = 1, number do
      local percent
      percent, at = unpack(PERCENT, bytes, at)
      made.crossed[percent] = true
    end
    one.special.amends = made
    return at
  end

  -- Reads how many hits come back to a bonus; returns where that ends.
  function amends.read_bonus(one, bonus, bytes, at)
    local made, back = one.special.amends
    back, at = unpack(ONE, bytes, at)
    made.of_bonuses = made.of_bonuses + back
    -- What was spent in an earlier period is gone.
    bonus.back = (bonus.starts or 0) <= made.at and back or 0
    return at
  end

  -- Puts hits back into the bonuses that they came from; returns those that come back to the limit itself. Mirrors
  -- Decider::put_back.
  function amends.put_back(one, hits)
    for _, bonus in ipairs(one.special.bonuses) do
      keep(one, bonus, max(bonus.spent - bonus.back, 0))
    end
    return max(hits - one.special.amends.of_bonuses, 0)
  end

  -- Keeps how many hits a charge with an idempotency key has taken of which bonuses. Mirrors Decider::keep_taken.
  function amends.keep_taken(one)
    local keyed, name, body = one.special.keyed, ';' .. one.entry.tag, ''
    for _, bonus in ipairs(one.special.bonuses) do
      local taken = bonus.taken or 0
      if 0 < taken then body = body .. pack(TAKEN, #bonus.id, bonus.id, taken) end
    end
    local entry = body == '' and find_entry(keyed.record, name) or body ~= '' and entry_of(keyed.record, name)
    if entry then entry.body, entry.expiry = body, keyed.entry.expiry end
  end

  -- The same as put_back, of a charge of which only its mark tells where the hits came from. Mirrors Decider::put_back_undone.
  function amends.put_back_undone(one, hits)
    local keyed, of_bonuses, taken = one.special.keyed, 0, {}
    local entry = find_entry(keyed.record, ';' .. one.entry.tag)
    local body, at = entry and entry.body or '', 1
    while at <= #body do
      local id, number
      id, number, at = unpack(TAKEN, body, at)
      taken[id], of_bonuses = number, of_bonuses + number
    end
    if entry then entry.body = '' end
    local made_at = keyed.entry.expiry - keyed.life
    for _, bonus in ipairs(one.special.bonuses) do
      local back = (bonus.starts or 0) <= made_at and taken[bonus.id] or 0
      keep(one, bonus, max(bonus.spent - back, 0))
    end
    return max(hits - of_bonuses, 0)
  end

  -- Has thresholds not been told. Mirrors Decider::take_reports_back.
  function amends.untell(one)
    local made = one.special.amends
    local entry = made and find_entry(one.record, TOLD .. one.entry.tag)
    if not entry or entry.body == '' then return end
    local kept = ''
    for at = 1, #entry.body - POINT_LEN + 1, POINT_LEN do
      local percent, stays = unpack(POINT, entry.body, at)
      if not made.crossed[percent % FELL] then kept = kept .. pack(POINT, percent, stays) end
    end
    if kept ~= entry.body then entry.body, one.record.written = kept, true end
  end

  -- Takes back what the earlier charge has reported and begun. Mirrors Decider::take_grace_back too.
  function amends.undo(one)
    amends.untell(one)
    local made = one.special.amends
    local since, entry = made.since, made.since ~= 0 and find_entry(one.record, GRACE .. one.entry.tag)
    if not made.is_whole and one.capacity < (one.entry.used or 0) then return end
    if entry and #entry.body == ONE_LEN and unpack(ONE, entry.body) == since then
      entry.body, one.record.written = '', true
      if one.special.grace then one.special.grace.since = false end
    end
  end

  -- Reports those of the thresholds that are crossed still. Mirrors Decider::report_again.
  function amends.tell(one)
    local special, state = one.special, one.entry
    if not special.points then return end
    local entry = entry_of(one.record, TOLD .. state.tag)
    local untils = read_told(entry.body)
    local last, bit = 0, 1
    for _, stays in pairs(untils) do last = max(last, stays) end
    for at = special.point, special.past_points - 1, POINT_LEN do
      local percent, hits = unpack(POINT, special.points, at)
      if special.amends.crossed[percent] and not untils[percent] and hits <= (state.used or 0) then
        local stays = special.rearm == 0 and state.ends or now + special.rearm
        special.crossed, last = special.crossed + bit, max(last, stays)
        entry.body, one.record.written = entry.body .. pack(POINT, percent, stays), true
      end
      bit = bit * 2
    end
    if special.crossed == 0 then return end
    local slowest = one.schedule and one.schedule.slowest or one.a
    entry.expiry = state.kind == TOTAL and 0 or max(last, expiry(state, slowest))
  end
end

