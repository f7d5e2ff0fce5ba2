//! Sums by minute, hour and day. It is pure: records, other sums and the time are its input.
//!
//! A record is added to the fresh sums, which have no days: those are in their hours. Once a second the fresh sums are added
//! to the kept ones, which is cheap for callers that sent many requests meanwhile, and for those that have no place there.
//!
//! Memory is bounded. Callers take a fixed number of bytes in each hour and day. If a granularity has more rows than its
//! maximum, its oldest minutes, hours or days are removed first.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use smallvec::SmallVec;

use crate::clock::Timestamp;
use crate::engine::DecisionRecord;

use super::bucket::Bucket;
use super::counts::Counts;
use super::granularity::Granularity;
use super::parts::{PARTS, parts};
use super::series::{SeriesId, SeriesTable};

/// Maximum number of rows of a granularity without a caller, some 180 bytes each.
const ROWS_MAX: usize = 8_192;

/// Memory of callers in an hour of fresh sums: some 20,000 callers.
const FRESH_MAX: usize = 6 * 1024 * 1024;

/// Memory of callers in each former hour and day of waiting sums.
const FORMER_MAX: usize = FRESH_MAX / 16;

/// Memory of callers in a kept hour and a kept day: some 250 and 500 callers with a limit or two.
const KEPT_HOUR_MAX: usize = 96 * 1024;
const KEPT_DAY_MAX: usize = 192 * 1024;

/// Maximum difference between the time of a record and ours: the clock of the store may be wrong.
const SKEW_MAX: Duration = Duration::from_secs(60);

/// Sums by minute, hour and day.
#[derive(Debug)]
pub struct Rollups {
    series: SeriesTable,
    minutes: Ring,
    hours: Ring,
    /// None: they are in the hours.
    days: Option<Ring>,
    requests: u64,
}

/// The sums of one granularity, oldest first.
#[derive(Debug)]
struct Ring {
    granularity: Granularity,
    /// Memory of callers in each bucket.
    bytes_max: usize,
    buckets: BTreeMap<Timestamp, Bucket>,
    /// Number of rows without a caller.
    rows: usize,
    /// Sums are complete from here on.
    whole_from: Timestamp,
}

impl Rollups {
    /// Empty, for records from then on.
    pub fn fresh(since: Timestamp) -> Self {
        Self::new(since, FRESH_MAX, None)
    }

    /// Empty, for fresh sums from then on: some 16 MiB at most.
    pub fn kept(since: Timestamp) -> Self {
        Self::new(since, KEPT_HOUR_MAX, Some(Ring::new(Granularity::Day, KEPT_DAY_MAX, since)))
    }

    /// Empty, for fresh sums that a store does not take for now.
    pub fn waiting(since: Timestamp) -> Self {
        let days = Ring::new(Granularity::Day, FRESH_MAX, since);
        Self::new(since, FRESH_MAX, Some(days))
    }

    fn new(since: Timestamp, hour_max: usize, days: Option<Ring>) -> Self {
        let minutes = Ring::new(Granularity::Minute, 0, since);
        let hours = Ring::new(Granularity::Hour, hour_max, since);
        Self { series: SeriesTable::default(), minutes, hours, days, requests: 0 }
    }

    /// Adds records to fresh sums.
    pub fn add(&mut self, records: &[DecisionRecord], now: Timestamp) {
        let earliest = Timestamp::from_ms(now.as_ms().saturating_sub(skew_ms()));
        for record in records {
            self.requests = self.requests.saturating_add(record.is_request.into());
            let at = record.at.clamp(earliest, now.after(SKEW_MAX));
            let counts: SmallVec<[_; PARTS]> = parts(record)
                .into_iter()
                .map(|(series, counts)| (self.series.id(series), Counts { last_at: at, ..counts }))
                .collect();
            if counts.is_empty() {
                continue;
            }
            self.minutes.add(None, &counts, at);
            self.hours.add(record.caller.as_deref(), &counts, at);
        }
    }

    /// Adds fresh sums, and removes expired ones.
    pub fn absorb(&mut self, fresh: &Self, now: Timestamp) {
        self.expire(now);
        self.requests = self.requests.saturating_add(fresh.requests);
        let numbers: Vec<SeriesId> = fresh.series.iter().map(|one| self.series.id(one)).collect();
        self.minutes.absorb(&fresh.minutes, &numbers);
        self.hours.absorb(&fresh.hours, &numbers);
        if let Some(days) = &mut self.days {
            days.absorb(&fresh.hours, &numbers);
        }
    }

    /// Keeps fewer callers in former hours and days.
    pub fn shrink(&mut self) {
        for ring in self.rings_mut() {
            let last = ring.buckets.last_key_value().map(|(start, _)| *start);
            let former = ring.buckets.range_mut(..last.unwrap_or_default());
            former.for_each(|(_, bucket)| bucket.shrink(FORMER_MAX));
        }
    }

    /// Whether days are summed apart from their hours.
    pub fn has_days(&self) -> bool {
        self.days.is_some()
    }

    /// Adds the counts of callers to the others, without their names, which are added to `names`.
    pub fn erase(&mut self, is_erased: &dyn Fn(&str) -> bool, names: &mut BTreeSet<String>) {
        for ring in self.rings_mut() {
            let before: usize = ring.buckets.values().map(Bucket::len).sum();
            ring.buckets.values_mut().for_each(|bucket| bucket.erase(is_erased, names));
            let after: usize = ring.buckets.values().map(Bucket::len).sum();
            ring.rows = ring.rows + after - before;
        }
    }

    /// Requests that were added so far.
    pub fn requests(&self) -> u64 {
        self.requests
    }

    /// Whether there are no sums.
    pub fn is_empty(&self) -> bool {
        self.rings().all(|ring| ring.buckets.is_empty())
    }

    /// The series, by number.
    pub fn series(&self) -> &SeriesTable {
        &self.series
    }

    /// The time from which the sums of a granularity are complete.
    pub fn whole_from(&self, granularity: Granularity, now: Timestamp) -> Timestamp {
        self.ring(granularity).whole_from.max(granularity.oldest(now))
    }

    /// The sums of each minute, hour or day that starts in the range, with its start. A day of fresh sums comes hour by hour.
    pub fn buckets(
        &self,
        granularity: Granularity,
        from: Timestamp,
        to: Timestamp,
    ) -> impl Iterator<Item = (Timestamp, &Bucket)> {
        let buckets = self.ring(granularity).buckets.iter();
        buckets
            .map(move |(start, bucket)| (granularity.start(*start), bucket))
            .skip_while(move |(start, _)| *start < from)
            .take_while(move |(start, _)| *start < to)
    }

    fn ring(&self, granularity: Granularity) -> &Ring {
        match granularity {
            Granularity::Minute => &self.minutes,
            Granularity::Hour => &self.hours,
            Granularity::Day => self.days.as_ref().unwrap_or(&self.hours),
        }
    }

    fn rings(&self) -> impl Iterator<Item = &Ring> {
        [&self.minutes, &self.hours].into_iter().chain(&self.days)
    }

    fn rings_mut(&mut self) -> impl Iterator<Item = &mut Ring> {
        [&mut self.minutes, &mut self.hours].into_iter().chain(&mut self.days)
    }

    fn expire(&mut self, now: Timestamp) {
        let mut days_expired = false;
        for ring in self.rings_mut() {
            let oldest = ring.granularity.oldest(now);
            while ring.buckets.first_key_value().is_some_and(|(start, _)| *start < oldest) {
                ring.forget_oldest();
                days_expired |= ring.granularity == Granularity::Day;
            }
        }
        if days_expired {
            self.forget_unused_series();
        }
    }

    fn forget_unused_series(&mut self) {
        let buckets = self.rings().flat_map(|ring| ring.buckets.values());
        let used: BTreeSet<_> =
            buckets.flat_map(|bucket| bucket.rows().map(|(_, series, _)| series)).collect();
        let numbers = self.series.retain(|id| used.contains(&id));
        let buckets = self.rings_mut().flat_map(|ring| ring.buckets.values_mut());
        buckets.for_each(|bucket| bucket.renumber(&numbers));
    }
}

impl Ring {
    fn new(granularity: Granularity, bytes_max: usize, since: Timestamp) -> Self {
        let whole_from = granularity.start(since);
        Self { granularity, bytes_max, buckets: BTreeMap::new(), rows: 0, whole_from }
    }

    fn add(&mut self, caller: Option<&str>, counts: &[(SeriesId, Counts)], at: Timestamp) {
        let bytes_max = self.bytes_max;
        self.edit(at, |bucket| bucket.add(caller, counts, bytes_max));
    }

    /// Adds the sums of another ring, whose series have these numbers here.
    fn absorb(&mut self, other: &Self, numbers: &[SeriesId]) {
        let bytes_max = self.bytes_max;
        for (start, added) in &other.buckets {
            self.edit(*start, |bucket| bucket.absorb(added, numbers, bytes_max));
        }
    }

    /// Edits the bucket of a time. If there are too many rows then, the oldest buckets are removed.
    fn edit(&mut self, at: Timestamp, edit: impl FnOnce(&mut Bucket)) {
        let bucket = self.buckets.entry(self.granularity.start(at)).or_default();
        let before = bucket.len();
        edit(bucket);
        self.rows = self.rows + bucket.len() - before;
        // The last one stays: it has at most two rows of each series.
        while ROWS_MAX < self.rows && 1 < self.buckets.len() {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((start, bucket)) = self.buckets.pop_first() {
            self.rows -= bucket.len();
            self.whole_from = self.whole_from.max(self.granularity.end(start));
        }
    }
}

fn skew_ms() -> u64 {
    u64::try_from(SKEW_MAX.as_millis()).unwrap_or(u64::MAX)
}
