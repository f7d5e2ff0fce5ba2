//! The groups of a query while rows are added.
//!
//! A query over 90 days may add a million rows, so names are looked up where they repeat: those of a series once for all its
//! rows, and that of a caller once for its rows in a minute, hour or day. A row is then a few numbers.

use std::cmp::{Ordering, Reverse};
use std::collections::BTreeSet;
use std::hash::RandomState as AttackSafe;
use std::ops::Range;
use std::sync::Arc;

use foldhash::fast::RandomState;
use indexmap::{IndexMap, IndexSet};
use smallvec::SmallVec;

use crate::clock::Timestamp;

use super::bucket::RowName;
use super::counts::{Counts, Total};
use super::query::{Dimension, Group, GroupName, Page, Rank, UsageQuery, name_of};
use super::series::{Outcome, Series, Subject};

/// Maximum number of groups of an answer from a store, some 300 bytes each.
pub const GROUPS_MAX: usize = 1_000_000;

/// The groups of a query while rows are added.
#[derive(Debug)]
pub struct Groups {
    query: Arc<UsageQuery>,
    /// The place of callers among the query's dimensions.
    callers_at: Option<usize>,
    /// Callers by number. Their names come from requests, so the map has a hash that can't be attacked.
    callers: IndexSet<Box<str>, AttackSafe>,
    /// Names of series by number: in the order of the query's dimensions, without the caller.
    names: IndexSet<SmallVec<[GroupName; 4]>, RandomState>,
    totals: IndexMap<GroupKey, Total, RandomState>,
}

/// The key of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct GroupKey {
    start: Option<Timestamp>,
    names: usize,
    caller: CallerPlace,
}

/// The place of a series in the groups of a query.
#[derive(Clone, Copy, Debug)]
pub struct SeriesPlace {
    names: usize,
    outcome: Outcome,
    is_spend: bool,
}

/// The place of a caller in the groups of a query. In this order, groups are sorted, but by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CallerPlace {
    /// No name, or the query does not group by callers.
    None,
    Number(usize),
    Other,
}

impl Groups {
    /// No groups yet.
    pub fn new(query: Arc<UsageQuery>) -> Self {
        let callers_at = query.group_by.iter().position(|one| *one == Dimension::Caller);
        Self {
            query,
            callers_at,
            callers: IndexSet::default(),
            names: IndexSet::default(),
            totals: IndexMap::default(),
        }
    }

    /// The query.
    pub fn query(&self) -> &UsageQuery {
        &self.query
    }

    /// Number of groups.
    pub fn len(&self) -> usize {
        self.totals.len()
    }

    /// The place of a series; None if its rows don't match the query.
    pub fn series(&mut self, series: Series<&str>) -> Option<SeriesPlace> {
        let Self { query, names: known, .. } = self;
        let has = |(dimension, name): &(Dimension, String)| {
            *dimension == Dimension::Caller || name_of(series, *dimension) == Some(name)
        };
        if !query.views(series) || !query.filters.iter().all(has) {
            return None;
        }
        let mut names = SmallVec::new();
        for dimension in &query.group_by {
            let name = name_of(series, *dimension);
            if name.is_none() && query.named_only && *dimension != Dimension::Caller {
                return None;
            }
            names.push(name.map_or(GroupName::None, |name| GroupName::Name(name.to_owned())));
        }
        let (names, _) = known.insert_full(names);
        let is_spend = matches!(series.subject, Subject::Spend { .. });
        Some(SeriesPlace { names, outcome: series.outcome, is_spend })
    }

    /// The place of a caller; None if its rows don't match the query.
    pub fn caller(&mut self, caller: RowName<'_>) -> Option<CallerPlace> {
        let has = |(dimension, name): &(Dimension, String)| {
            *dimension != Dimension::Caller || caller == RowName::Name(name)
        };
        let is_asked = |names: &BTreeSet<String>| match caller {
            RowName::Name(name) => names.contains(name),
            RowName::None | RowName::Other => false,
        };
        if !self.query.filters.iter().all(has) || !self.query.callers.as_ref().is_none_or(is_asked)
        {
            return None;
        }
        if self.callers_at.is_none() {
            return Some(CallerPlace::None);
        }
        match caller {
            RowName::None if self.query.named_only => None,
            RowName::None => Some(CallerPlace::None),
            RowName::Other => Some(CallerPlace::Other),
            RowName::Name(name) => {
                let known = self.callers.get_index_of(name);
                let number = known.unwrap_or_else(|| self.callers.insert_full(name.into()).0);
                Some(CallerPlace::Number(number))
            }
        }
    }

    /// Adds the counts of a series and a caller in the minute, hour or day that starts at `start`.
    pub fn add(
        &mut self,
        start: Timestamp,
        (series, caller): (SeriesPlace, CallerPlace),
        counts: &Counts,
    ) {
        let start = self.query.by_time.then_some(start);
        let key = GroupKey { start, names: series.names, caller };
        let total = self.totals.entry(key).or_default();
        match series.is_spend {
            true => total.add_spend(counts),
            false => total.add(series.outcome, counts),
        }
    }

    /// The groups on the query's page, for sums from `from` on.
    pub fn page(self, from: Timestamp) -> Page {
        let mut order: Vec<usize> = (0..self.totals.len()).collect();
        let ranks = self.ranks();
        let group = |index: usize| self.totals.get_index(index);
        order.sort_unstable_by(|one, other| match (group(*one), group(*other)) {
            (Some((one, _)), Some((other, _))) => self.compare(one, other, &ranks),
            _ => Ordering::Equal,
        });
        let sum = |total: &Total| match self.query.rank {
            Rank::Group => 0,
            Rank::Requests => total.counts.requests,
            Rank::Refused => total.refused,
            Rank::HitsSpent => total.counts.hits_spent,
            Rank::Spent => total.spend.spent,
        };
        if self.query.rank != Rank::Group {
            order.sort_by_key(|index| Reverse(group(*index).map(|(_, total)| sum(total))));
        }
        let Range { start, end } = self.query.range;
        let more = end < order.len();
        let page = order.into_iter().skip(start).take(end.saturating_sub(start));
        let groups = page.filter_map(group).map(|(key, total)| (self.group(key), *total));
        Page { from, groups: groups.collect(), more }
    }

    /// The rank of each caller by its name.
    fn ranks(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.callers.len()).collect();
        order.sort_unstable_by_key(|number| self.callers.get_index(*number));
        let mut ranks = vec![0; order.len()];
        for (rank, number) in order.into_iter().enumerate() {
            ranks[number] = rank;
        }
        ranks
    }

    /// The order of groups: by start and names.
    fn compare(&self, one: &GroupKey, other: &GroupKey, ranks: &[usize]) -> Ordering {
        let rank = |caller| match caller {
            CallerPlace::Number(number) => CallerPlace::Number(ranks[number]),
            other => other,
        };
        let callers = || rank(one.caller).cmp(&rank(other.caller));
        let starts = one.start.cmp(&other.start);
        if one.names == other.names {
            return starts.then_with(callers);
        }
        let names = |key: &GroupKey| self.names.get_index(key.names).map_or(&[][..], |names| names);
        let (one, other) = (names(one), names(other));
        let at = self.callers_at.unwrap_or(one.len());
        let before = || one[..at].cmp(&other[..at]);
        starts.then_with(before).then_with(callers).then_with(|| one[at..].cmp(&other[at..]))
    }

    fn group(&self, key: &GroupKey) -> Group {
        let mut names: Vec<_> =
            self.names.get_index(key.names).map_or_else(Vec::new, |names| names.to_vec());
        if let Some(caller) = self.callers_at.and_then(|at| names.get_mut(at)) {
            *caller = match key.caller {
                CallerPlace::None => GroupName::None,
                CallerPlace::Other => GroupName::Other,
                CallerPlace::Number(number) => {
                    let name = self.callers.get_index(number);
                    name.map_or(GroupName::None, |name| GroupName::Name(name.to_string()))
                }
            };
        }
        Group { start: key.start, names }
    }
}
