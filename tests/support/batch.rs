//! Short constructors for batches and limits.

use std::sync::Arc;

use jiff::tz::TimeZone;
use tollgate::clock::{Now, Timestamp};
use tollgate::limit::{
    Algorithm, Bonus, Bucket, Calendar, CalendarUnit, Condition, Effect, Fixed, Hits, HourRange,
    Limit, Overdraft, Scale, Sliding, Timetable,
};
use tollgate::policy::{Key, Mode, RetryId};
use tollgate::store::{Batch, Charge, FINAL, Gauge, IdempotencyMark, Mark, Once, Pressed};

/// The start time of tests: not at the edge of a window, in the summer of 2025.
pub const START_MS: u64 = 1_750_000_000_123;

/// This many milliseconds after the start of the tests, whatever any clock says.
pub fn after(ms: u64) -> Now {
    Now::Given(Timestamp::from_ms(START_MS + ms))
}

pub fn key(name: &str) -> Key {
    let mut key = Key::of_domain("test");
    key.push_value("name", name);
    key
}

pub fn sliding(amount: u64, window_ms: u64) -> Arc<Limit> {
    Arc::new(Limit::new(amount, Algorithm::Sliding(Sliding::new(window_ms, amount))))
}

pub fn fixed(amount: u64, window_ms: u64) -> Arc<Limit> {
    Arc::new(Limit::new(amount, Algorithm::Fixed(Fixed::new(window_ms))))
}

pub fn bucket(amount: u64, window_ms: u64, burst: u64) -> Arc<Limit> {
    let bucket = Bucket::new(amount, window_ms, burst).unwrap();
    Arc::new(Limit::new(amount, Algorithm::Bucket(bucket)))
}

pub fn calendar(amount: u64, unit: CalendarUnit, zone: &str) -> Arc<Limit> {
    let calendar = Calendar::new(unit, TimeZone::get(zone).unwrap());
    Arc::new(Limit::new(amount, Algorithm::Calendar(calendar)))
}

pub fn total(amount: u64) -> Arc<Limit> {
    Arc::new(Limit::new(amount, Algorithm::Total))
}

/// One limit of each algorithm, all of `amount`.
pub fn one_of_each(amount: u64) -> [Arc<Limit>; 6] {
    [
        sliding(amount, 60_000),
        sliding(amount, 1_000),
        fixed(amount, 60_000),
        bucket(amount, 60_000, amount),
        calendar(amount, CalendarUnit::Hour, "UTC"),
        total(amount),
    ]
}

/// A batch with one enforced charge.
pub fn one(name: &str, limit: &Arc<Limit>, hits: Hits) -> Batch {
    batch(&[(name, 0, Mode::Enforce, limit, hits)])
}

/// A batch of charges: key, group, mode, limit, hits.
pub fn batch(charges: &[(&str, usize, Mode, &Arc<Limit>, Hits)]) -> Batch {
    let mut batch = Batch::default();
    for (name, group, mode, limit, hits) in charges {
        let key_index = batch.key_index(key(name));
        let (group, mode, hits, limit) = (*group, *mode, *hits, Arc::clone(limit));
        batch.charges.push(Charge { group, mode, ..Charge::plain(key_index, limit, hits) });
    }
    batch
}

/// The same batch, with only a part of each limit's capacity open.
pub fn opened(mut batch: Batch, hits: u64) -> Batch {
    for Charge { limit, open, .. } in &mut batch.charges {
        let of_schedule = || limit.reference_capacity() / limit.capacity() * hits;
        open.hits = if limit.scheduled().is_some() { of_schedule() } else { hits };
    }
    batch
}

/// The same batch, with bonuses on each limit: id, amount, end in milliseconds after the start.
pub fn with_bonuses(mut batch: Batch, bonuses: &[(&str, u64, u64)]) -> Batch {
    let bonus =
        |&(id, amount, ms): &(&str, u64, u64)| Bonus::new(id, amount, after(ms).timestamp());
    for charge in &mut batch.charges {
        charge.bonuses = bonuses.iter().map(bonus).collect();
    }
    batch
}

/// The same batch, with a gauge on its first charge, with marks (level, rise, fall). It leaves this much open to that
/// charge at each level.
pub fn pressed(mut batch: Batch, marks: &[(u8, u64, u64)], hits: &[u64]) -> Batch {
    let mark = |&(level, rise, fall): &(u8, u64, u64)| Mark { charge: 0, level, rise, fall };
    let (gauge, key_index) = (batch.gauges.len(), batch.charges[0].key_index);
    batch.gauges.push(Gauge { key_index, marks: marks.iter().map(mark).collect() });
    batch.charges[0].open.pressed.push(Pressed { gauge, hits: hits.into() });
    batch
}

/// The same batch, all of whose charges may be made in part.
pub fn in_part(mut batch: Batch) -> Batch {
    batch.charges.iter_mut().for_each(|charge| charge.part = 1);
    batch
}

/// Lifetime of the marks of [`with_id`].
pub const MARK_LIFE_MS: u64 = 600_000;

/// The same batch with an idempotency key.
pub fn with_id(mut batch: Batch, id: &str) -> Batch {
    for index in 0..batch.charges.len() {
        let key = &batch.keys[batch.charges[index].key_index];
        let key_index = batch.key_index(key.mark(None, RetryId::Entry(id)));
        let life_ms = u32::try_from(MARK_LIFE_MS).unwrap();
        let mark = IdempotencyMark { key_index: 0, retries_max: 5, life_ms, attempt: FINAL };
        batch.charges[index].once = Some(Once::Mark(mark).under(key_index));
    }
    batch
}

/// The same batch, which only looks for its idempotency key.
pub fn looking(mut batch: Batch) -> Batch {
    for charge in &mut batch.charges {
        if let Some(Once::Mark(mark)) = charge.once {
            charge.once = Some(Once::Look(mark));
        }
    }
    batch
}

/// A limit with this percentage of its amount in each range of minutes of the day, in UTC.
pub fn on_schedule(limit: &Limit, ranges: &[((u16, u16), u32)]) -> Arc<Limit> {
    let condition = |&((start, end), _): &((u16, u16), u32)| {
        let hours = vec![HourRange { start, end }];
        Condition { hours, ..Condition::default() }
    };
    let percents: Vec<u32> = ranges.iter().map(|(_, percent)| *percent).collect();
    while_holding(limit, ranges.iter().map(condition).collect(), &percents)
}

/// A limit with this percentage of its amount by condition, in UTC.
pub fn while_holding(limit: &Limit, conditions: Vec<Condition>, percents: &[u32]) -> Arc<Limit> {
    let timetable = Arc::new(Timetable::new(conditions, TimeZone::UTC));
    let scale = |percent: &u32| Effect::Scale(Scale::of_hundredths(percent * 100));
    Arc::new(limit.clone().on_schedule(timetable, percents.iter().map(scale).collect()))
}

/// The same limit with an overdraft.
pub fn overdrawn(limit: &Limit, overdraft: Overdraft) -> Arc<Limit> {
    Arc::new(limit.clone().overdrawn(overdraft))
}
