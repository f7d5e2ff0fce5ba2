//! Queries of usage: the kind of sums, their time, dimensions and order.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::ops::Range;

use smallvec::SmallVec;

use crate::clock::Timestamp;

use super::bucket::RowName;
use super::counts::{Counts, Total};
use super::granularity::Granularity;
use super::rollups::Rollups;
use super::series::{OTHER, Outcome, Series, Subject};

/// The kind of sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// Requests, each counted once.
    Requests,
    /// The limits that applied to requests, each counted once per request, and their hits.
    Limits,
    /// Refusals, once for each limit that refused.
    Denials,
}

/// The dimensions of sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dimension {
    Domain,
    Limit,
    Tier,
    Caller,
    Provider,
    Code,
    Reason,
    /// The kind of a request with a price.
    Kind,
}

/// The order of groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rank {
    /// By start and names.
    Group,
    /// The largest first; equal ones by names.
    Requests,
    Refused,
    HitsSpent,
    Spent,
}

/// A query of usage.
#[derive(Clone, Debug)]
pub struct UsageQuery {
    pub view: View,
    pub granularity: Granularity,
    pub from: Timestamp,
    /// The end: sums must start before it.
    pub to: Timestamp,
    /// Whether each minute, hour or day is a group of its own.
    pub by_time: bool,
    pub group_by: Vec<Dimension>,
    /// Only rows with a name in each dimension.
    pub named_only: bool,
    /// The currency of the money to sum with requests; None: no money.
    pub currency: Option<String>,
    /// Only rows with these names.
    pub filters: Vec<(Dimension, String)>,
    pub rank: Rank,
    /// The range of the groups to return.
    pub range: Range<usize>,
}

/// The names of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// None unless the query is by time.
    pub start: Option<Timestamp>,
    /// In the order of the query's dimensions.
    pub names: Vec<GroupName>,
}

/// The name of a group in one dimension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupName {
    /// No name, such as the tier if the policy has none.
    None,
    Name(String),
    /// Callers beyond the busiest.
    Other,
}

/// A page of groups.
#[derive(Clone, Debug)]
pub struct Page {
    /// The start of the sums.
    pub from: Timestamp,
    pub groups: Vec<(Group, Total)>,
    /// Whether more groups follow.
    pub more: bool,
}

/// The key of a group while rows are summed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct GroupKey<'r> {
    start: Option<Timestamp>,
    names: SmallVec<[RowName<'r>; 4]>,
}

/// The series and the caller of a row.
#[derive(Clone, Copy)]
pub struct Row<'r> {
    pub series: Series<&'r str>,
    pub caller: RowName<'r>,
}

/// The groups of a query while rows are added.
#[derive(Debug)]
pub struct Groups<'r> {
    query: &'r UsageQuery,
    /// Names come from requests, so the map has a hash that can't be attacked.
    totals: HashMap<GroupKey<'r>, Total>,
}

impl<'r> Groups<'r> {
    /// No groups yet.
    pub fn new(query: &'r UsageQuery) -> Self {
        Self { query, totals: HashMap::new() }
    }

    /// Adds a row of the minute, hour or day that starts at `start`, if it matches the query. Only then its counts are read.
    pub fn add(&mut self, start: Timestamp, row: Row<'r>, counts: impl FnOnce() -> Counts) {
        if !self.query.matches(row) {
            return;
        }
        let counts = &counts();
        let names = self.query.group_by.iter().map(|dimension| row.name(*dimension)).collect();
        let key = GroupKey { start: self.query.by_time.then_some(start), names };
        let total = self.totals.entry(key).or_default();
        match row.series.subject {
            Subject::Spend { .. } => total.add_spend(counts),
            _ => total.add(row.series.outcome, counts),
        }
    }

    /// The groups on the query's page, for sums from `from` on.
    pub fn page(self, from: Timestamp) -> Page {
        let mut groups: Vec<_> = self.totals.into_iter().collect();
        groups.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        match self.query.rank {
            Rank::Group => {}
            Rank::Requests => groups.sort_by_key(|(_, total)| Reverse(total.counts.requests)),
            Rank::Refused => groups.sort_by_key(|(_, total)| Reverse(total.refused)),
            Rank::HitsSpent => groups.sort_by_key(|(_, total)| Reverse(total.counts.hits_spent)),
            Rank::Spent => groups.sort_by_key(|(_, total)| Reverse(total.spend.spent)),
        }
        let Range { start, end } = self.query.range;
        let more = end < groups.len();
        let reported = groups.into_iter().skip(start).take(end.saturating_sub(start));
        Page { from, groups: reported.map(|(key, total)| (key.into(), total)).collect(), more }
    }
}

impl UsageQuery {
    /// Sums the rows that match the query.
    pub fn sum(&self, rollups: &Rollups, now: Timestamp) -> Page {
        let from = self.granularity.start(self.from);
        let from = from.max(rollups.whole_from(self.granularity, now));
        let mut groups = Groups::new(self);
        for (start, bucket) in rollups.buckets(self.granularity, from, self.to) {
            for (caller, series, counts) in bucket.rows() {
                if let Some(series) = rollups.series().get(series) {
                    groups.add(start, Row { series, caller }, || *counts);
                }
            }
        }
        groups.page(from)
    }

    /// Whether its groups have sums of money.
    pub fn has_money(&self) -> bool {
        self.view == View::Requests && self.currency.is_some()
    }

    fn matches(&self, row: Row<'_>) -> bool {
        let is_viewed = match (self.view, row.series.subject) {
            (View::Requests, Subject::Request) | (View::Limits, Subject::Limit(_)) => true,
            (View::Requests, Subject::Spend { currency, .. }) => {
                self.currency.as_deref() == Some(currency)
            }
            (View::Denials, Subject::Limit(_) | Subject::NoLimit) => {
                matches!(row.series.outcome, Outcome::Refused(_))
            }
            _ => false,
        };
        let has = |(dimension, name): &(Dimension, String)| {
            row.name(*dimension) == RowName::Name(name.as_str())
        };
        let is_named = |dimension: &Dimension| row.name(*dimension) != RowName::None;
        is_viewed
            && self.filters.iter().all(has)
            && (!self.named_only || self.group_by.iter().all(is_named))
    }
}

impl<'r> Row<'r> {
    fn name(self, dimension: Dimension) -> RowName<'r> {
        let Series { domain, tier, provider, subject, outcome } = self.series;
        let name = match (dimension, subject) {
            (Dimension::Caller, _) => return self.caller,
            (Dimension::Domain, _) => domain,
            (Dimension::Tier, _) => tier,
            (Dimension::Provider, _) => provider,
            (Dimension::Limit, Subject::Limit(limit)) => Some(limit),
            (Dimension::Limit, _) => None,
            (Dimension::Kind, Subject::Spend { kind, .. }) => Some(kind),
            (Dimension::Kind, _) => None,
            (Dimension::Code, _) => Some(code(outcome)),
            (Dimension::Reason, _) => match outcome {
                Outcome::Refused(reason) => Some(reason.name()),
                Outcome::Allowed | Outcome::RefusedElsewhere | Outcome::Error => None,
            },
        };
        name.map_or(RowName::None, RowName::Name)
    }
}

/// The name of an outcome, as in metrics.
fn code(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Allowed => "ok",
        Outcome::Refused(_) | Outcome::RefusedElsewhere => "over_limit",
        Outcome::Error => "error",
    }
}

impl From<GroupKey<'_>> for Group {
    fn from(key: GroupKey<'_>) -> Self {
        let name = |name| match name {
            RowName::None => GroupName::None,
            RowName::Name(name) => GroupName::Name(name.to_owned()),
            RowName::Other => GroupName::Other,
        };
        Self { start: key.start, names: key.names.into_iter().map(name).collect() }
    }
}

impl GroupName {
    /// The name as text.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::None => None,
            Self::Name(name) => Some(name),
            Self::Other => Some(OTHER),
        }
    }
}
