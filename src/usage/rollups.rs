//! Sums of records by minute, hour and day. It is pure: records and the time are its input.
//!
//! Memory is bounded to some 16 MiB in all. Callers take a fixed number of bytes in each hour and day. If a granularity
//! has more rows than its maximum, its oldest minutes, hours or days are removed first.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use smallvec::SmallVec;

use crate::clock::Timestamp;
use crate::engine::{ChargeRecord, Code, DecisionRecord};
use crate::limit::Hits;

use super::bucket::Bucket;
use super::counts::Counts;
use super::granularity::Granularity;
use super::series::{Outcome, Series, SeriesId, SeriesTable, Subject};

/// Maximum number of rows of a granularity without a caller, some 180 bytes each.
const ROWS_MAX: usize = 8_192;

/// Memory of callers in an hour and in a day.
#[derive(Clone, Copy, Debug)]
pub struct CallerBytes {
    pub hour_max: usize,
    pub day_max: usize,
}

impl CallerBytes {
    /// If all hours and days are kept: some 250 and 500 callers with a limit or two.
    pub const KEPT: Self = Self { hour_max: 96 * 1024, day_max: 192 * 1024 };
    /// If sums are soon sent to a store: some 20,000 callers.
    pub const PASSING: Self = Self { hour_max: 6 * 1024 * 1024, day_max: 6 * 1024 * 1024 };
}

/// Maximum difference between the time of a record and ours: the clock of the store may be wrong.
const SKEW_MAX: Duration = Duration::from_secs(60);

/// Sums of records by minute, hour and day.
#[derive(Debug)]
pub struct Rollups {
    series: SeriesTable,
    rings: [Ring; 3],
    callers: CallerBytes,
    requests: u64,
}

/// The sums of one granularity, oldest first.
#[derive(Debug)]
struct Ring {
    granularity: Granularity,
    buckets: BTreeMap<Timestamp, Bucket>,
    /// Number of rows without a caller.
    rows: usize,
    /// Sums are complete from here on.
    whole_from: Timestamp,
}

/// The additions of most records.
const PARTS: usize = 4;

/// The addition of a record to a series.
type Part<'r> = (Series<&'r str>, Counts);

impl Rollups {
    /// Empty; counts from then on.
    pub fn new(since: Timestamp, callers: CallerBytes) -> Self {
        let ring = |granularity: Granularity| Ring {
            granularity,
            buckets: BTreeMap::new(),
            rows: 0,
            whole_from: granularity.start(since),
        };
        let rings = Granularity::ALL.map(ring);
        Self { series: SeriesTable::default(), rings, callers, requests: 0 }
    }

    /// Adds records, and removes expired sums.
    pub fn add(&mut self, records: &[DecisionRecord], now: Timestamp) {
        self.expire(now);
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
            let (caller, callers) = (record.caller.as_deref(), self.callers);
            self.rings.iter_mut().for_each(|ring| ring.add((caller, &counts), at, callers));
        }
    }

    /// Adds the counts of callers to the others, without their names, which are added to `names`.
    pub fn erase(&mut self, is_erased: &dyn Fn(&str) -> bool, names: &mut BTreeSet<String>) {
        for ring in &mut self.rings {
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
        self.rings.iter().all(|ring| ring.buckets.is_empty())
    }

    /// The series, by number.
    pub fn series(&self) -> &SeriesTable {
        &self.series
    }

    /// The time from which the sums of a granularity are complete.
    pub fn whole_from(&self, granularity: Granularity, now: Timestamp) -> Timestamp {
        let whole = self.rings.iter().find(|ring| ring.granularity == granularity);
        whole.map_or(now, |ring| ring.whole_from).max(granularity.oldest(now))
    }

    /// The sums of each minute, hour or day that starts in the range, with its start.
    pub fn buckets(
        &self,
        granularity: Granularity,
        from: Timestamp,
        to: Timestamp,
    ) -> impl Iterator<Item = (Timestamp, &Bucket)> {
        let rings = self.rings.iter().filter(move |ring| ring.granularity == granularity);
        rings
            .flat_map(move |ring| ring.buckets.range(from..to.max(from)))
            .map(|(start, bucket)| (*start, bucket))
    }

    fn expire(&mut self, now: Timestamp) {
        let mut days_expired = false;
        for ring in &mut self.rings {
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
        let buckets = self.rings.iter().flat_map(|ring| ring.buckets.values());
        let used: BTreeSet<_> =
            buckets.flat_map(|bucket| bucket.rows().map(|(_, series, _)| series)).collect();
        let numbers = self.series.retain(|id| used.contains(&id));
        let buckets = self.rings.iter_mut().flat_map(|ring| ring.buckets.values_mut());
        buckets.for_each(|bucket| bucket.renumber(&numbers));
    }
}

impl Ring {
    fn add(
        &mut self,
        (caller, counts): (Option<&str>, &[(SeriesId, Counts)]),
        at: Timestamp,
        callers: CallerBytes,
    ) {
        let bytes_max = match self.granularity {
            Granularity::Minute => 0,
            Granularity::Hour => callers.hour_max,
            Granularity::Day => callers.day_max,
        };
        let caller = caller.filter(|_| self.granularity.has_callers());
        let bucket = self.buckets.entry(self.granularity.start(at)).or_default();
        let before = bucket.len();
        bucket.add(caller, counts, bytes_max);
        self.rows += bucket.len() - before;
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

/// The additions of a record: its request, and each limit that applied to it.
fn parts(record: &DecisionRecord) -> SmallVec<[Part<'_>; PARTS]> {
    let outcome = match (record.code, record.reason) {
        (Code::Ok, _) => Outcome::Allowed,
        (Code::OverLimit, reason) => Outcome::Refused(reason.unwrap_or_default()),
        (Code::Unavailable, _) => Outcome::Error,
    };
    let (domain, tier) = (record.domain(), record.tier());
    let spend = record.spend();
    let provider = record.chosen().next().or(spend.and_then(|spend| spend.provider));
    let series = |subject, outcome| Series { domain, tier, provider, subject, outcome };
    let is_shadow_refused =
        |charge: &ChargeRecord| record.code == Code::Ok && !charge.mode.refuses() && !charge.fits;
    let request = |shadow_refused: bool| match record.is_request {
        true => Counts {
            requests: 1,
            shadow_refused: shadow_refused.into(),
            fallback: record.fallback.into(),
            waited: (!record.waited().is_zero()).into(),
            ..Counts::default()
        },
        false => Counts::default(),
    };

    let mut parts = SmallVec::new();
    let shadow_refused = record.charges.iter().any(is_shadow_refused);
    parts.push((series(Subject::Request, outcome), request(shadow_refused)));
    if let Some(spend) = spend.filter(|spend| spend.spent != 0 || spend.given_back != 0) {
        let (hits_spent, hits_given_back) = (spend.spent, spend.given_back);
        let counts = Counts { requests: 1, hits_spent, hits_given_back, ..Counts::default() };
        let subject = Subject::Spend { currency: spend.currency, kind: spend.kind };
        parts.push((series(subject, outcome), counts));
    }
    let mut limits: SmallVec<[_; 4]> = record.limits().collect();
    if limits.is_empty() && record.code == Code::OverLimit {
        parts.push((series(Subject::NoLimit, outcome), request(false)));
    }
    // A limit may apply several times, for example to two users in one request.
    limits.sort_by_key(|(label, _)| *label);
    for charges in limits.chunk_by(|(one, _), (next, _)| one == next) {
        let Some((label, _)) = charges.first() else { continue };
        let charges = charges.iter().map(|(_, charge)| *charge);
        let refusal = charges.clone().filter_map(|charge| charge.refusal).max();
        let outcome = match (record.code, refusal) {
            (_, Some(reason)) if record.code == Code::OverLimit => Outcome::Refused(reason),
            (Code::OverLimit, _) => Outcome::RefusedElsewhere,
            _ => outcome,
        };
        let mut counts = request(charges.clone().any(is_shadow_refused));
        charges.for_each(|charge| add_hits(&mut counts, record.code, charge));
        parts.push((series(Subject::Limit(label), outcome), counts));
    }
    if !record.is_request {
        parts.retain(|(_, counts)| *counts != Counts::default());
    }
    parts
}

/// Adds the hits of a charge to the counts of its limit.
fn add_hits(counts: &mut Counts, code: Code, charge: &ChargeRecord) {
    let fits = charge.fits;
    if charge.missed != 0 {
        let sum = match charge.mode.refuses() {
            true => &mut counts.hits_refused,
            false => &mut counts.hits_shadow_refused,
        };
        *sum = sum.saturating_add(charge.missed);
    }
    let sum = match charge.hits {
        Hits::Spend(_) if charge.counted || (fits && code == Code::Ok) => &mut counts.hits_spent,
        Hits::Spend(_) if !fits && !charge.mode.refuses() => &mut counts.hits_shadow_refused,
        Hits::Spend(_) if !fits => &mut counts.hits_refused,
        Hits::GiveBack(_) if code == Code::Ok => &mut counts.hits_given_back,
        // The limit had the hits, but another one refused.
        _ => return,
    };
    *sum = sum.saturating_add(charge.hits.amount());
}
