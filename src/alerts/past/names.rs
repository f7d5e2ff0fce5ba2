//! Names in sums of usage: callers, and the filters of rules.

use crate::alerts::labels::Labels;
use crate::policy::AlertRule;
use crate::usage::{Dimension, Group, GroupName, Rank, UsageQuery};

/// A caller: its domain and its name.
pub type CallerOf = (String, String);

/// The caller of a group by domain and caller; None for the sum of all others.
pub fn caller_of(group: &Group) -> Option<CallerOf> {
    match &group.names[..] {
        [GroupName::Name(domain), GroupName::Name(caller)] => {
            Some((domain.clone(), caller.clone()))
        }
        _ => None,
    }
}

/// The labels of an alert about a caller.
pub fn labels((domain, caller): &CallerOf) -> Labels {
    Labels::new().with("domain", Some(domain)).with("caller", Some(caller))
}

/// The callers of a query with the most of what `rank` says, as many as the rule reads.
pub fn top_callers(rule: &AlertRule, rank: Rank, query: UsageQuery) -> UsageQuery {
    UsageQuery {
        group_by: vec![Dimension::Domain, Dimension::Caller],
        filters: filters(rule),
        rank,
        range: 0..rule.top,
        ..query
    }
}

/// The filters of a query for a rule.
pub fn filters(rule: &AlertRule) -> Vec<(Dimension, String)> {
    let filter = &rule.filter;
    let all = [
        (Dimension::Domain, &filter.domain),
        (Dimension::Tier, &filter.tier),
        (Dimension::Provider, &filter.provider),
    ];
    let given = |(dimension, name): (Dimension, &Option<Box<str>>)| {
        Some((dimension, name.as_deref()?.to_owned()))
    };
    all.into_iter().filter_map(given).collect()
}
