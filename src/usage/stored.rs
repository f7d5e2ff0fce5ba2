//! Queries to a store of sums: the question to the store, and the groups in its answer.

use std::collections::{BTreeSet, HashMap};

use foldhash::fast::RandomState;

use crate::clock::Timestamp;
use crate::store::sums::{
    CallersAsked, SumsAnswer, SumsEntry, SumsPeriod, SumsQuestion, SumsTable,
};

use super::bucket::RowName;
use super::code::{read_counts, read_series};
use super::granularity::Granularity;
use super::outbox::period;
use super::query::{Dimension, Groups, Page, Row, UsageQuery};
use super::retention::Retention;
use super::series::Series;

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

    /// The groups in an answer.
    pub fn sum_stored(&self, answer: &SumsAnswer, from: Timestamp) -> Page {
        let names = answer.names.iter();
        let series = names.filter_map(|(name, text)| Some((name.as_str(), read_series(text)?)));
        let series: HashMap<_, _, RandomState> = series.collect();
        let mut groups = Groups::new(self);
        for (period, entries) in &answer.periods {
            let start = self.granularity.start_of(period.number);
            for entry in entries {
                for (caller, name, sums) in rows(entry) {
                    if let Some(series) = series.get(name).map(Series::borrowed) {
                        let row = Row { series, caller };
                        groups.add(start, row, || read_counts(sums, start));
                    }
                }
            }
        }
        groups.page(from)
    }

    fn callers(&self) -> CallersAsked {
        let filter = self.filters.iter().find(|(dimension, _)| *dimension == Dimension::Caller);
        match filter {
            Some((_, name)) => CallersAsked::One(name.clone()),
            None if self.group_by.contains(&Dimension::Caller) => CallersAsked::Each,
            None => CallersAsked::Totals,
        }
    }
}

/// The rows of an entry: caller, the name of the series, and its counts.
fn rows(entry: &SumsEntry) -> impl Iterator<Item = (RowName<'_>, &str, &str)> {
    entry.sums.split(' ').filter_map(move |row| {
        let (name, sums) = row.split_once('=')?;
        Some(match entry.table {
            SumsTable::Callers => (RowName::Name(&entry.field), name, sums),
            SumsTable::Others => (RowName::Other, &*entry.field, sums),
            SumsTable::Names | SumsTable::Totals | SumsTable::Nameless => {
                (RowName::None, &*entry.field, sums)
            }
        })
    })
}
