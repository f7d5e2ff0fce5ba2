//! Queries of usage: the kind of sums, their time, dimensions and order.

use std::collections::BTreeSet;
use std::ops::Range;

use crate::clock::Timestamp;

use super::counts::Total;
use super::granularity::Granularity;
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
    /// Only rows of these callers; None: of all. A store reads only these, so they should be as few as a page has.
    pub callers: Option<BTreeSet<String>>,
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

/// The name of a group in one dimension. In this order, groups are sorted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
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

impl UsageQuery {
    /// All sums of a view since a time, in one group, without money.
    pub fn since(view: View, granularity: Granularity, from: Timestamp) -> Self {
        Self {
            view,
            granularity,
            from,
            to: Timestamp::MAX,
            by_time: false,
            group_by: Vec::new(),
            named_only: false,
            currency: None,
            filters: Vec::new(),
            callers: None,
            rank: Rank::Group,
            range: 0..usize::MAX,
        }
    }

    /// Whether its groups have sums of money.
    pub fn has_money(&self) -> bool {
        self.view == View::Requests && self.currency.is_some()
    }

    /// Whether sums of a series are of this view.
    pub fn views(&self, series: Series<&str>) -> bool {
        match (self.view, series.subject) {
            (View::Requests, Subject::Request) | (View::Limits, Subject::Limit(_)) => true,
            (View::Requests, Subject::Spend { currency, .. }) => {
                self.currency.as_deref() == Some(currency)
            }
            (View::Denials, Subject::Limit(_) | Subject::NoLimit) => {
                matches!(series.outcome, Outcome::Refused(_))
            }
            _ => false,
        }
    }
}

/// The name of a series in a dimension; None if it has none, as in that of callers.
pub fn name_of(series: Series<&str>, dimension: Dimension) -> Option<&str> {
    let Series { domain, tier, provider, subject, outcome } = series;
    match (dimension, subject) {
        (Dimension::Domain, _) => domain,
        (Dimension::Tier, _) => tier,
        (Dimension::Provider, _) => provider,
        (Dimension::Limit, Subject::Limit(limit)) => Some(limit),
        (Dimension::Kind, Subject::Spend { kind, .. }) => Some(kind),
        (Dimension::Code, _) => Some(code(outcome)),
        (Dimension::Reason, _) => match outcome {
            Outcome::Refused(reason) => Some(reason.name()),
            Outcome::Allowed | Outcome::RefusedElsewhere | Outcome::Error => None,
        },
        (Dimension::Caller | Dimension::Limit | Dimension::Kind, _) => None,
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
