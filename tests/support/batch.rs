//! Batches and limits in few words.

use std::sync::Arc;

use jiff::tz::TimeZone;
use tollgate::clock::Now;
use tollgate::clock::Timestamp;
use tollgate::limit::Algorithm;
use tollgate::limit::Bucket;
use tollgate::limit::Calendar;
use tollgate::limit::CalendarUnit;
use tollgate::limit::Fixed;
use tollgate::limit::Hits;
use tollgate::limit::Limit;
use tollgate::limit::Sliding;
use tollgate::policy::Key;
use tollgate::policy::Mode;
use tollgate::store::Batch;
use tollgate::store::Charge;
use tollgate::store::Open;

/// A time at which tests begin: no window's edge, in the summer of 2025.
pub const START_MS: u64 = 1_750_000_000_123;

/// So many milliseconds after the tests' beginning, whatever any clock says.
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
        batch.charges.push(Charge {
            key_index,
            group,
            mode,
            limit,
            hits,
            open: Open::all(),
            bonuses: Vec::new(),
        });
    }
    batch
}
