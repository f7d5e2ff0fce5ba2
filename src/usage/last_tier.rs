//! The tiers that callers last had, from the sums of their usage.

use std::collections::{BTreeMap, BTreeSet};

use super::{Dimension, Granularity, Page, UsageQuery, View};
use crate::clock::Timestamp;

/// Tiers of a caller that are looked at, by domain; on average, of several callers.
const GROUPS_MAX: usize = 1_000;

/// By caller, its tiers by domain.
pub type LastTiers = BTreeMap<String, BTreeMap<String, String>>;

/// The tiers under which callers were counted in the last 31 days, by domain.
pub fn last_tiers_query(callers: BTreeSet<String>, now: Timestamp) -> UsageQuery {
    let granularity = Granularity::Day;
    UsageQuery {
        group_by: vec![Dimension::Caller, Dimension::Domain, Dimension::Tier],
        named_only: true,
        range: 0..GROUPS_MAX * callers.len(),
        callers: Some(callers),
        ..UsageQuery::since(View::Requests, granularity, granularity.oldest(now))
    }
}

/// The tier of the last request of each caller by domain, from the page of the query; only tiers that `is_known` for a caller, a
/// domain and the tier.
pub fn last_tiers(page: &Page, is_known: impl Fn(&str, &str, &str) -> bool) -> LastTiers {
    let mut last: BTreeMap<(&str, &str), (Timestamp, &str)> = BTreeMap::new();
    for (group, total) in &page.groups {
        let [caller, domain, tier] = &group.names[..] else { continue };
        let (Some(caller), Some(domain), Some(tier)) = (caller.text(), domain.text(), tier.text())
        else {
            continue;
        };
        let at = total.counts.last_at;
        let is_later = last.get(&(caller, domain)).is_none_or(|(before, _)| *before < at);
        if is_known(caller, domain, tier) && is_later {
            last.insert((caller, domain), (at, tier));
        }
    }
    let mut tiers = LastTiers::new();
    for ((caller, domain), (_, tier)) in last {
        let of_caller = tiers.entry(caller.to_owned()).or_default();
        of_caller.insert(domain.to_owned(), tier.to_owned());
    }
    tiers
}
