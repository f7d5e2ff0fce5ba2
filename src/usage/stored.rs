//! Queries to a store of sums: the question to the store, and the groups in its answer.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::clock::Timestamp;
use crate::store::sums::{
    CallersAsked, SumsError, SumsPeriod, SumsQuestion, SumsReader, SumsTable,
};

use super::bucket::RowName;
use super::code::{read_counts, read_series};
use super::granularity::Granularity;
use super::groups::{GROUPS_MAX, Groups, SeriesPlace};
use super::outbox::period;
use super::query::{Dimension, Page, UsageQuery};
use super::retention::Retention;

impl UsageQuery {
    /// The start of the first minute, hour or day in a question to a store with that retention.
    pub fn stored_from(&self, retention: Retention, now: Timestamp) -> Timestamp {
        self.granularity.start(self.from).max(retention.oldest(self.granularity, now))
    }

    /// The question to a store.
    pub fn question(&self, retention: Retention, now: Timestamp) -> SumsQuestion {
        let granularity = self.granularity;
        let first = granularity.number(self.stored_from(retention, now));
        // The clock of a record may be ahead by a minute.
        let last = granularity.number(Timestamp::from_ms(self.to.as_ms().saturating_sub(1)));
        let last = last.min(granularity.number(now) + 1);
        let starts = || (first..=last).map(|number| granularity.start_of(number));
        let days: BTreeSet<SumsPeriod> =
            starts().map(|start| period(Granularity::Day, start)).collect();
        SumsQuestion {
            periods: starts().map(|start| period(granularity, start)).collect(),
            names: days.into_iter().collect(),
            callers: self.callers(),
        }
    }

    fn callers(&self) -> CallersAsked {
        let filter = self.filters.iter().find(|(dimension, _)| *dimension == Dimension::Caller);
        match (filter, &self.callers) {
            (Some((_, name)), _) => CallersAsked::Named(vec![name.clone()]),
            (None, Some(names)) => CallersAsked::Named(names.iter().cloned().collect()),
            (None, None) if self.group_by.contains(&Dimension::Caller) => CallersAsked::Each,
            (None, None) => CallersAsked::Totals,
        }
    }
}

/// The groups of a query, summed while the answer of a store is read.
#[derive(Debug)]
pub struct StoredGroups {
    groups: Groups,
    /// The places of series by name; None if their rows don't match the query.
    series: HashMap<Box<str>, Option<SeriesPlace>, RandomState>,
}

impl StoredGroups {
    /// No groups yet.
    pub fn new(query: Arc<UsageQuery>) -> Self {
        Self { groups: Groups::new(query), series: HashMap::default() }
    }

    /// The groups on the query's page, for sums from `from` on.
    pub fn page(self, from: Timestamp) -> Page {
        self.groups.page(from)
    }
}

impl SumsReader for StoredGroups {
    fn name(&mut self, name: &str, meaning: &str) {
        if !self.series.contains_key(name)
            && let Some(series) = read_series(meaning)
        {
            self.series.insert(name.into(), self.groups.series(series.borrowed()));
        }
    }

    fn sums(
        &mut self,
        (period, table): (SumsPeriod, SumsTable),
        field: &str,
        sums: &str,
    ) -> Result<(), SumsError> {
        let (caller, series) = match table {
            SumsTable::Callers => (RowName::Name(field), None),
            SumsTable::Others => (RowName::Other, Some(field)),
            SumsTable::Names | SumsTable::Totals | SumsTable::Nameless => {
                (RowName::None, Some(field))
            }
        };
        let start = self.groups.query().granularity.start_of(period.number);
        let mut place = None;
        for row in sums.split(' ') {
            let Some((name, counts)) = row.split_once('=') else { continue };
            let Some(Some(series)) = self.series.get(series.unwrap_or(name)) else { continue };
            let Some(caller) = place.or_else(|| self.groups.caller(caller)) else { break };
            place = Some(caller);
            self.groups.add(start, (*series, caller), &read_counts(counts, start));
        }
        if GROUPS_MAX < self.groups.len() { Err(SumsError::Full) } else { Ok(()) }
    }
}
