//! Batches of usage for a store of sums: the counts since the last batch, and unconfirmed batches.
//!
//! A batch is sent until the store confirms it; later counts wait for the next one. The numbers of the batches of a
//! process ascend, so the store adds a batch once however often it is sent.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use crate::clock::Timestamp;
use crate::store::sums::{
    CallersKept, SumsAdded, SumsBatch, SumsEntry, SumsPeriod, SumsTable, place,
};

use super::bucket::{Bucket, RowName};
use super::busy::BusyCallers;
use super::code::{SeriesRef, series_ref, write_counts, write_series};
use super::counts::Counts;
use super::granularity::Granularity;
use super::retention::Retention;
use super::rollups::Rollups;
use super::series::{SeriesId, SeriesTable};

/// Maximum additions of a batch: they occupy the store for some half a millisecond.
const BATCH_LEN_MAX: usize = 128;

/// Days whose names are remembered: today, and days of late records or of another clock.
const DAYS_NAMED_MAX: usize = 4;

/// Counts and batches for a store of sums.
#[derive(Debug)]
pub struct Outbox {
    retention: Retention,
    pending: Rollups,
    batches: VecDeque<Arc<SumsBatch>>,
    last_number: u64,
    /// The names that the store knows, by day.
    named: BTreeMap<SumsPeriod, BTreeSet<SeriesRef>>,
    /// Days with a confirmed batch.
    begun: BTreeSet<SumsPeriod>,
    is_failing: bool,
    busy: BusyCallers,
}

/// The texts of the series of a table, and their short names.
struct Names<'t> {
    series: &'t SeriesTable,
    known: BTreeMap<SeriesId, (SeriesRef, String)>,
}

impl Outbox {
    /// An empty outbox.
    pub fn new(retention: Retention, now: Timestamp) -> Self {
        Self {
            retention,
            pending: Rollups::fresh(now),
            batches: VecDeque::new(),
            last_number: 0,
            named: BTreeMap::new(),
            begun: BTreeSet::new(),
            is_failing: false,
            busy: BusyCallers::new(),
        }
    }

    /// The retention of sums.
    pub fn retention(&self) -> Retention {
        self.retention
    }

    /// Adds fresh sums.
    pub fn add(&mut self, fresh: Rollups, now: Timestamp) {
        if self.pending.is_empty() {
            self.pending = fresh;
            return;
        }
        // The store does not take the former ones.
        if !self.pending.has_days() {
            let former = std::mem::replace(&mut self.pending, Rollups::waiting(now));
            self.pending.absorb(&former, now);
        }
        self.pending.absorb(&fresh, now);
        self.pending.shrink();
    }

    /// Removes callers from what is not sent yet, and returns their names: what was sent before may have them too.
    pub fn erase(&mut self, is_erased: &dyn Fn(&str) -> bool) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        self.pending.erase(is_erased, &mut names);
        let is_of =
            |entry: &SumsEntry| entry.table == SumsTable::Callers && is_erased(&entry.field);
        for batch in &mut self.batches {
            if batch.entries.iter().any(is_of) {
                let entries = &mut Arc::make_mut(batch).entries;
                names.extend(entries.iter().filter(|one| is_of(one)).map(|one| one.field.clone()));
                entries.retain(|entry| !is_of(entry));
            }
        }
        names
    }

    /// The batch to send next: the same until it is confirmed. None: everything was sent.
    pub fn next(&mut self, now: Timestamp) -> Option<Arc<SumsBatch>> {
        if self.batches.is_empty() && !self.pending.is_empty() {
            let next = Rollups::fresh(now);
            let counted = std::mem::replace(&mut self.pending, next);
            self.pack(&counted, now);
        }
        self.batches.front().cloned()
    }

    /// Records that the batch was not confirmed. Returns whether the previous ones were.
    pub fn fail(&mut self) -> bool {
        !std::mem::replace(&mut self.is_failing, true)
    }

    /// Records that the store has the batch.
    pub fn confirm(&mut self, added: SumsAdded) {
        self.is_failing = false;
        let Some(batch) = self.batches.pop_front() else { return };
        let is_new = self.begun.insert(batch.period);
        if added == SumsAdded::First && !is_new {
            // The store has lost its data: it needs the names again.
            self.named.clear();
        }
        while DAYS_NAMED_MAX < self.named.len() && self.named.pop_first().is_some() {}
        let oldest = self.named.keys().next().copied();
        self.begun.retain(|period| Some(*period) >= oldest);
    }

    /// Makes batches of the counts. Days come first: they have the names that hours and minutes need.
    fn pack(&mut self, counted: &Rollups, now: Timestamp) {
        let mut names = Names { series: counted.series(), known: BTreeMap::new() };
        for granularity in [Granularity::Day, Granularity::Hour, Granularity::Minute] {
            let all = counted.buckets(granularity, Timestamp::default(), Timestamp::MAX);
            for (start, bucket) in all {
                let busy = (granularity == Granularity::Hour).then_some(&mut self.busy);
                let mut entries = names.entries(bucket, (granularity, start), busy);
                let period = period(granularity, start);
                if granularity == Granularity::Day {
                    let known = self.named.entry(period).or_default();
                    entries.splice(0..0, names.unknown(known));
                }
                let oldest = granularity.number(self.retention.oldest(granularity, now));
                self.push(granularity, (period, oldest), entries);
            }
        }
        if let Some(last) = self.batches.back_mut() {
            Arc::make_mut(last).is_last = true;
        }
    }

    fn push(
        &mut self,
        granularity: Granularity,
        (period, oldest): (SumsPeriod, u64),
        entries: Vec<SumsEntry>,
    ) {
        let mut entries = entries.into_iter().peekable();
        while entries.peek().is_some() {
            self.last_number += 1;
            self.batches.push_back(Arc::new(SumsBatch {
                period,
                number: self.last_number,
                life: self.retention.of(granularity),
                oldest,
                is_last: false,
                callers: match granularity {
                    Granularity::Day => CallersKept::All,
                    Granularity::Minute | Granularity::Hour => CallersKept::Busiest,
                },
                entries: entries.by_ref().take(BATCH_LEN_MAX).collect(),
            }));
        }
    }
}

impl Names<'_> {
    /// The additions of a bucket to its period. Of an hour, callers that are not busy are added to the others.
    fn entries(
        &mut self,
        bucket: &Bucket,
        (granularity, start): (Granularity, Timestamp),
        mut busy: Option<&mut BusyCallers>,
    ) -> Vec<SumsEntry> {
        let mut tables = [SumsTable::Totals, SumsTable::Nameless, SumsTable::Others]
            .map(|table| (table, BTreeMap::<SeriesId, Counts>::new()));
        let [totals, nameless, others] = &mut tables;
        let add = |(_, sums): &mut (_, BTreeMap<SeriesId, Counts>), id, counts: &Counts| {
            sums.entry(id).or_default().add(counts);
        };
        for (caller, series, counts) in bucket.rows() {
            add(totals, series, counts);
            match caller {
                RowName::Name(_) => {}
                RowName::None if granularity.has_callers() => add(nameless, series, counts),
                RowName::None => {}
                RowName::Other => add(others, series, counts),
            }
        }
        let mut named = Vec::new();
        for (caller, rows) in bucket.callers() {
            let requests = rows.iter().map(|(_, counts)| counts.requests).max();
            let requests = requests.unwrap_or_default();
            if busy.as_mut().is_some_and(|busy| !busy.admits(start, caller, requests)) {
                rows.iter().for_each(|(series, counts)| add(others, *series, counts));
                continue;
            }
            let mut sums = String::new();
            for (series, counts) in rows {
                let Some(name) = self.name(*series) else { continue };
                let separator = if sums.is_empty() { "" } else { " " };
                sums.extend([separator, name, "="]);
                write_counts(&mut sums, counts, start);
            }
            named.push(SumsEntry { table: SumsTable::Callers, field: caller.to_owned(), sums });
        }
        named.sort_by_cached_key(|entry| place(&entry.field));
        let mut entries = Vec::new();
        for (table, all) in tables {
            // Two series may have the same name, though hardly ever.
            let mut by_name = BTreeMap::<String, Counts>::new();
            for (series, counts) in all {
                let Some(name) = self.name(series) else { continue };
                by_name.entry(name.to_owned()).or_default().add(&counts);
            }
            for (field, counts) in by_name {
                let mut sums = "=".to_owned();
                write_counts(&mut sums, &counts, start);
                entries.push(SumsEntry { table, field, sums });
            }
        }
        entries.extend(named);
        entries
    }

    /// Definitions of names that are not in `known` yet; adds them to it.
    fn unknown(&self, known: &mut BTreeSet<SeriesRef>) -> Vec<SumsEntry> {
        let unknown = self.known.values().filter(|(name, _)| known.insert(name.clone()));
        let entry = |(name, text): &(SeriesRef, String)| SumsEntry {
            table: SumsTable::Names,
            field: name.clone(),
            sums: text.clone(),
        };
        unknown.map(entry).collect()
    }

    fn name(&mut self, id: SeriesId) -> Option<&str> {
        if let Entry::Vacant(new) = self.known.entry(id) {
            let text = write_series(self.series.get(id)?);
            new.insert((series_ref(&text), text));
        }
        self.known.get(&id).map(|(name, _)| &**name)
    }
}

/// All periods that are kept and have callers.
pub fn periods_with_callers(retention: Retention, now: Timestamp) -> Vec<SumsPeriod> {
    let of = |granularity: Granularity| {
        let first = granularity.number(retention.oldest(granularity, now));
        let last = granularity.number(now);
        // A sidecar whose clock is ahead has begun the next one.
        (first..=last.saturating_add(1))
            .map(move |number| SumsPeriod { number, ..period(granularity, now) })
    };
    let granularities = Granularity::ALL.into_iter().filter(|one| one.has_callers());
    granularities.flat_map(of).collect()
}

/// The period of the minute, hour or day with that start.
pub fn period(granularity: Granularity, start: Timestamp) -> SumsPeriod {
    let kind = match granularity {
        Granularity::Minute => 'm',
        Granularity::Hour => 'h',
        Granularity::Day => 'd',
    };
    SumsPeriod { kind, number: granularity.number(start) }
}
