//! Names in sums of usage: callers, and the filters of rules.

use crate::alerts::labels::Labels;
use crate::policy::AlertRule;
use crate::usage::{Dimension, Group, GroupName};

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
