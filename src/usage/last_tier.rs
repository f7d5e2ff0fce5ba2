//! The tier that a caller last had, from the sums of its usage.

use std::collections::BTreeMap;

use super::{Dimension, Granularity, Page, UsageQuery, View};
use crate::clock::Timestamp;

/// Tiers of a caller that are looked at, by domain.
const GROUPS_MAX: usize = 1_000;

/// The tiers under which a caller was counted in the last 31 days, by domain.
pub fn last_tiers_query(caller: &str, now: Timestamp) -> UsageQuery {
    let granularity = Granularity::Day;
    UsageQuery {
        group_by: vec![Dimension::Domain, Dimension::Tier],
        named_only: true,
        filters: vec![(Dimension::Caller, caller.to_owned())],
        range: 0..GROUPS_MAX,
        ..UsageQuery::since(View::Requests, granularity, granularity.oldest(now))
    }
}

/// The tier of the last request of the caller by domain, from the page of the query; only tiers that `is_known` of a domain.
pub fn last_tiers(page: &Page, is_known: impl Fn(&str, &str) -> bool) -> BTreeMap<String, String> {
    let mut last: BTreeMap<&str, (Timestamp, &str)> = BTreeMap::new();
    for (group, total) in &page.groups {
        let [domain, tier] = &group.names[..] else { continue };
        let (Some(domain), Some(tier)) = (domain.text(), tier.text()) else { continue };
        let at = total.counts.last_at;
        if is_known(domain, tier) && last.get(domain).is_none_or(|(before, _)| *before < at) {
            last.insert(domain, (at, tier));
        }
    }
    last.into_iter().map(|(domain, (_, tier))| (domain.to_owned(), tier.to_owned())).collect()
}
