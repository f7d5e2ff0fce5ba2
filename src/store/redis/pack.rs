//! Packs requests for the code in the server; `charge.lua` says what each part means.
//!
//! Numbers travel as little-endian bytes, because the server then reads a whole charge with one call.

use crate::clock::Timestamp;
use crate::limit::{
    AMOUNT_MAX, Algorithm, Bonus, COUNT_MAX, Grace, Hits, Limit, Outlook, Overdraft, Recurrence,
    Thresholds,
};
use crate::policy::{Mode, Refused};
use crate::store::{Batch, Charge, IdempotencyMark, Once, PARTS_MAX, Reservation};

/// Bytes of a packed charge without its tag.
const CHARGE_LEN: usize = 43;

/// How many modes there are: the byte of a mode tells in multiples of it whether a charge is special.
const MODES: u8 = 4;

/// How many overdrafts there are, and none with a grace: what is special tells in multiples of it whether hits count when they are refused.
const OVERDRAFTS: u8 = 5;

/// How many ways there are for hits to count when they are refused: what is special tells in multiples of both whether
/// the charge has thresholds.
const DEBITS: u8 = 3;

/// How many ways there are to make a charge once: their byte tells in multiples of it which part of the request the charge is.
const ONCES: u8 = 8;

/// What is added to the byte of a mode for a charge whose amount follows a schedule.
const SCHEDULED: u8 = 128;

/// What is added to the amount of a bonus that recurs, and to the hits that are taken ahead of a charge that tells how its
/// bonuses stand: more than any amount.
const MARKED: u64 = 1 << 52;

/// What is added to what a charge does with reservations, for one that puts something right of an earlier one.
const AMENDS: u8 = 16;

/// The same for one of whose bonuses one alone has the hits.
const ALONE: u8 = 32;

/// What a request begins with that has one plain charge, and what others begin with.
const ONE_PLAIN: u8 = 1;
const ANY: u8 = 2;

/// A request whose calendar periods are those of `estimate`, packed for a group that has its keys under `indexes`.
pub fn pack_request(bytes: &mut Vec<u8>, batch: &Batch, indexes: &[usize], estimate: Timestamp) {
    match batch.charges.as_slice() {
        [one] if one.is_plain() && batch.gauges.is_empty() => bytes.push(ONE_PLAIN),
        _ => {
            bytes.push(ANY);
            pack_gauges(bytes, batch, (indexes, estimate));
        }
    }
    for (index, group) in batch.groups().enumerate() {
        for charge in group {
            push_short(bytes, indexes[charge.key_index]);
            pack(bytes, (charge, indexes), index + 1, estimate);
        }
    }
}

/// A charge as bytes after its key: `<I2BBi8I7I7I7I7Bc0` in the words of Lua's `struct`, and what is special about it.
fn pack(
    bytes: &mut Vec<u8>,
    (charge, indexes): (&Charge, &[usize]),
    group: usize,
    estimate: Timestamp,
) {
    let limit = charge.limit.at(estimate);
    let tag = limit.tag().as_bytes();
    bytes.reserve(CHARGE_LEN + tag.len());
    push_short(bytes, group);
    let special = if charge.is_plain() { 0 } else { special_code(charge) };
    let scheduled = charge.limit.scheduled().map_or(0, |_| SCHEDULED);
    bytes.push(scheduled + special * MODES + mode_code(charge.mode));
    bytes.push(kind_code(limit));
    bytes.extend(signed(charge.hits).to_le_bytes());
    push_long(bytes, limit.capacity());
    for number in shape(limit, estimate) {
        push_long(bytes, number);
    }
    push_text(bytes, tag);
    if special != 0 {
        pack_special(bytes, (charge, limit), (indexes, estimate));
    }
    if scheduled != 0 {
        pack_schedule(bytes, charge, estimate);
    }
}

/// How the amount of a charge follows its schedule: `<I7I7I7BB`, then `<I7I7` for each stretch that a bucket has behind it,
/// and `<I7I7I7` for each that comes, `I7` more if the charge has a grace.
fn pack_schedule(bytes: &mut Vec<u8>, charge: &Charge, estimate: Timestamp) {
    let Some(Outlook { past, later, until_ms }) = charge.limit.outlook(estimate) else { return };
    let (present, past) = past.split_last().expect("a schedule has a present stretch");
    let slowest = charge.limit.slowest_paid_per_ms();
    let past = if slowest.is_some() { past } else { &[] };
    push_long(bytes, present.from_ms);
    push_long(bytes, until_ms);
    push_long(bytes, slowest.unwrap_or_else(|| shape(&charge.limit, estimate)[0]));
    bytes.push(byte(past.len()));
    bytes.push(byte(later.len()));
    for stretch in past {
        push_long(bytes, stretch.from_ms);
        push_long(bytes, shape(stretch.limit, estimate)[0]);
    }
    for stretch in later {
        push_long(bytes, stretch.from_ms);
        push_long(bytes, charge.part(charge.open.hits, stretch.limit));
        push_long(bytes, shape(stretch.limit, estimate)[0]);
        if charge.grace().is_some() {
            let is_open = stretch.limit.capacity() <= charge.part(charge.open.hits, stretch.limit);
            let grace = stretch.limit.grace().filter(|_| is_open);
            push_long(bytes, grace.map_or(0, Grace::over));
        }
    }
}

/// What only a charge has that is not plain: `<I7I7I7BI2BB`, which bonus alone has its hits (`B`), what it puts
/// right (`<I7I7B`, `<I2` for each threshold, and `<I7`
/// after each bonus), and `<I7c8`, `<I2I2I4c8` or `<I7` if it is made once; then `<I2B`
/// and `I7`s for each gauge that presses, then `<I7I7Bc0` for each bonus, with how it recurs, and at the end its thresholds, its
/// grace, and `<I7c8` for a reservation, and `<I7` for an estimate.
fn pack_special(
    bytes: &mut Vec<u8>,
    (charge, limit): (&Charge, &Limit),
    (indexes, estimate): (&[usize], Timestamp),
) {
    let open = &charge.open;
    push_long(bytes, charge.part(open.hits, limit));
    let tells = if charge.tells_bonuses() { MARKED } else { 0 };
    push_long(bytes, charge.ahead.min(AMOUNT_MAX) + tells);
    push_long(bytes, charge.until.map_or(0, Timestamp::as_ms));
    let part = if charge.is_partial() { charge.part.min(PARTS_MAX) } else { 0 };
    bytes.push(once_code(charge.once) + part * ONCES);
    push_short(bytes, open.pressed.len());
    bytes.push(byte(charge.bonuses.len()));
    let step = charge.step();
    pack_exceptions(bytes, charge);
    match charge.once {
        None => {}
        Some(Once::Token(token)) => {
            push_long(bytes, token.number);
            bytes.extend(token.by.to_le_bytes());
        }
        Some(Once::Mark(mark) | Once::Undo(mark) | Once::Look(mark)) => {
            pack_mark(bytes, mark, indexes);
        }
        Some(Once::Correction { read_at }) => push_long(bytes, read_at.as_ms()),
    }
    for pressed in &open.pressed {
        push_short(bytes, pressed.gauge + 1);
        bytes.push(byte(pressed.hits.len()));
        pressed.hits.iter().for_each(|hits| push_long(bytes, charge.part(*hits, limit)));
    }
    for (index, bonus) in charge.bonuses.iter().enumerate() {
        let amount = bonus.amount.min(AMOUNT_MAX);
        push_long(bytes, amount + bonus.recurs.as_ref().map_or(0, |_| MARKED));
        push_long(bytes, bonus.until.as_ms());
        push_text(bytes, bonus.id.as_bytes());
        if let Some(recurs) = &bonus.recurs {
            pack_recurrence(bytes, (bonus, recurs), estimate);
        }
        if let Some(amends) = &charge.amends {
            push_long(bytes, amends.bonuses.get(index).copied().unwrap_or(0).min(COUNT_MAX));
        }
    }
    if let (Some(_), Some(thresholds)) = (charge.thresholds(), limit.thresholds()) {
        pack_thresholds(bytes, thresholds, limit.rearm_ms());
    }
    if let (Some(_), Some(grace)) = (charge.grace(), limit.grace()) {
        for number in [grace.over(), grace.for_ms(), charge.limit.grace_pause_ms().unwrap_or(0)] {
            push_long(bytes, number);
        }
    }
    if let Some([first, second]) = step.and_then(reserved) {
        push_long(bytes, first);
        bytes.extend(second.to_le_bytes());
    }
    if let Some(Reservation::Estimate { hits, .. }) = step {
        push_long(bytes, hits.min(AMOUNT_MAX));
    }
}

/// For how many milliseconds it holds hits, how many of them it settles, or how many estimates it releases; and the id of its
/// reservation, or the hits of an estimate.
fn reserved(step: Reservation) -> Option<[u64; 2]> {
    let life_ms = step.life_ms().into();
    match step {
        Reservation::SettleEstimate { hits } => Some([hits.min(AMOUNT_MAX), 0]),
        Reservation::Estimate { each, .. } => Some([life_ms, each.min(AMOUNT_MAX)]),
        Reservation::ReleaseEstimates { hits, count } => {
            Some([count.min(AMOUNT_MAX), hits.min(AMOUNT_MAX)])
        }
        step => Some([life_ms, step.id()?]),
    }
}

/// What a charge does with reservations, which of its bonuses alone has its hits, and what it puts right.
fn pack_exceptions(bytes: &mut Vec<u8>, charge: &Charge) {
    let step = charge.step().map_or(0, |step| step_code(step, charge.hits));
    let alone = charge.alone();
    let has_amends = charge.amends.as_ref().map_or(0, |_| AMENDS);
    bytes.push(step + has_amends + alone.map_or(0, |_| ALONE));
    if let Some(alone) = alone {
        bytes.push(byte(alone + 1));
    }
    if let Some(amends) = &charge.amends {
        push_long(bytes, amends.at.as_ms());
        push_long(bytes, amends.grace_since.map_or(0, Timestamp::as_ms));
        bytes.push(u8::from(amends.is_whole));
        bytes.push(byte(amends.crossed.len()));
        amends.crossed.iter().for_each(|percent| bytes.extend(percent.to_le_bytes()));
    }
}

/// How a bonus recurs: `<I7I7I7I7I7B`, and `<I7` for each time at which it comes anew.
fn pack_recurrence(bytes: &mut Vec<u8>, (bonus, recurs): (&Bonus, &Recurrence), now: Timestamp) {
    let period = recurs.period(now);
    let amount = bonus.amount.min(AMOUNT_MAX);
    let kept_ms = recurs.forgotten_ms(amount, period);
    let rollover_max = recurs.rollover_max().min(AMOUNT_MAX);
    for number in [recurs.first(), period.number, period.start_ms, kept_ms, rollover_max] {
        push_long(bytes, number);
    }
    let renewals = recurs.renewals(amount, period);
    bytes.push(byte(renewals.len()));
    renewals.iter().for_each(|renews_ms| push_long(bytes, *renews_ms));
}

/// Thresholds as bytes: `<I7B`, and `<I2I7` for each.
fn pack_thresholds(bytes: &mut Vec<u8>, thresholds: &Thresholds, rearm_ms: Option<u64>) {
    push_long(bytes, rearm_ms.unwrap_or(0));
    bytes.push(byte(thresholds.points().count()));
    for (percent, hits) in thresholds.points() {
        bytes.extend(percent.to_le_bytes());
        push_long(bytes, hits.min(COUNT_MAX));
    }
}

fn pack_mark(bytes: &mut Vec<u8>, mark: IdempotencyMark, indexes: &[usize]) {
    push_short(bytes, indexes[usize::from(mark.key_index)]);
    bytes.extend(mark.retries_max.to_le_bytes());
    bytes.extend(mark.life_ms.to_le_bytes());
    bytes.extend(mark.attempt.to_le_bytes());
}

/// How a charge is made once.
fn once_code(once: Option<Once>) -> u8 {
    match once {
        None => 0,
        Some(Once::Token(_)) => 1,
        Some(Once::Mark(_)) => 2,
        Some(Once::Undo(_)) => 3,
        Some(Once::Correction { .. }) => 4,
        Some(Once::Look(_)) => 5,
    }
}

/// What a charge of these hits does with reservations. Zero has no sign, so the code says whether all held hits were used.
fn step_code(step: Reservation, hits: Hits) -> u8 {
    match step {
        Reservation::Settle { .. } if hits == Hits::GiveBack(0) => 6,
        Reservation::Count => 1,
        Reservation::Hold { .. } => 2,
        Reservation::Settle { .. } => 3,
        Reservation::Extend { .. } => 4,
        Reservation::Release { .. } => 5,
        Reservation::Estimate { .. } => 7,
        Reservation::SettleEstimate { .. } => 8,
        Reservation::ReleaseEstimates { .. } => 9,
    }
}

/// Gauges as bytes: `<I2` for how many, `<I2I2` for each, and `<I2BI7I7` for each of its marks.
fn pack_gauges(bytes: &mut Vec<u8>, batch: &Batch, (indexes, estimate): (&[usize], Timestamp)) {
    push_short(bytes, batch.gauges.len());
    for gauge in &batch.gauges {
        push_short(bytes, indexes[gauge.key_index]);
        push_short(bytes, gauge.marks.len());
        for mark in &gauge.marks {
            push_short(bytes, mark.charge + 1);
            bytes.push(mark.level);
            let charge = &batch.charges[mark.charge];
            for point in [mark.rise, mark.fall] {
                let point = charge.scaled(point, charge.limit.at(estimate));
                push_long(bytes, point.min(COUNT_MAX));
            }
        }
    }
}

/// What the limit's algorithm needs beside its capacity, as the script's legend lists it.
fn shape(limit: &Limit, estimate: Timestamp) -> [u64; 3] {
    match limit.algorithm() {
        Algorithm::Sliding(sliding) => [sliding.window_ms(), sliding.slot_ms(), 0],
        Algorithm::Fixed(fixed) => [fixed.window_ms(), 0, 0],
        Algorithm::Bucket(bucket) => [bucket.paid_per_ms(), bucket.window_ms(), 0],
        Algorithm::Calendar(calendar) => {
            let end = calendar.end_after(estimate);
            [calendar.start_of(estimate).as_ms(), end.as_ms(), calendar.end_after(end).as_ms()]
        }
        Algorithm::Total => [0, 0, 0],
    }
}

fn kind_code(limit: &Limit) -> u8 {
    match limit.algorithm() {
        Algorithm::Sliding(_) => 1,
        Algorithm::Fixed(_) => 2,
        Algorithm::Bucket(_) => 3,
        Algorithm::Calendar(_) => 4,
        Algorithm::Total => 5,
    }
}

fn mode_code(mode: Mode) -> u8 {
    match mode {
        Mode::Enforce => 0,
        Mode::Quota => 1,
        Mode::Warn | Mode::Shadow | Mode::Off => 2,
    }
}

/// Overdraft is a matter of spending: what gives back, be it nothing, always fits.
fn special_code(charge: &Charge) -> u8 {
    let overdraft = match (charge.hits, charge.limit.overdraft()) {
        _ if charge.grace().is_some() => 5,
        (Hits::GiveBack(_), _) | (_, Overdraft::None) => 1,
        (_, Overdraft::Allow) => 2,
        (_, Overdraft::Clip) => 3,
        (_, Overdraft::Owed) => 4,
    };
    let debit = match charge.refused {
        Refused::Counted if charge.is_peek() || charge.is_debit() => 1,
        Refused::Booked if charge.is_booked() => 2,
        _ => 0,
    };
    let has_thresholds = u8::from(charge.thresholds().is_some());
    overdraft + (debit + has_thresholds * DEBITS) * OVERDRAFTS
}

/// Hits to spend, or below zero those to give back.
fn signed(hits: Hits) -> i64 {
    let amount = i64::try_from(hits.amount()).expect("hits are cut to AMOUNT_MAX + 1");
    match hits {
        Hits::Spend(_) => amount,
        Hits::GiveBack(_) => -amount,
    }
}

fn push_short(bytes: &mut Vec<u8>, number: usize) {
    let number = u16::try_from(number).expect("a request's charges are bounded by its descriptors");
    bytes.extend(number.to_le_bytes());
}

/// Seven bytes hold every number that the limits' arithmetic is exact for.
pub fn push_long(bytes: &mut impl Extend<u8>, number: u64) {
    bytes.extend(number.to_le_bytes().into_iter().take(7));
}

/// A tag is a window or a zone's name; the ids of bonuses are as short.
fn push_text(bytes: &mut Vec<u8>, text: &[u8]) {
    bytes.push(byte(text.len()));
    bytes.extend(text);
}

fn byte(len: usize) -> u8 {
    u8::try_from(len).expect("whoever builds a batch bounds what a charge has")
}
