//! The tier that a caller last had, from usage: where requests say the tier by an entry, the API has no other source for a
//! caller that is not in the directory.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::timeout;

use super::reading::read;
use crate::clock::Timestamp;
use crate::http::edge::Edge;
use crate::http::quota::params::Target;
use crate::policy::{Domain, Lineage};
use crate::usage::{Dimension, Granularity, Rank, UsageQuery, View};

/// How long usage may take to tell the tier. Then the policy's default applies.
const LAST_TIER_TIMEOUT: Duration = Duration::from_secs(1);

/// Tiers of a caller that are looked at, by domain.
const GROUPS_MAX: usize = 1_000;

/// The same target with the tiers that its caller last had, in the domains where neither its entries nor the directory
/// say the tier.
pub async fn with_last_tiers(edge: &Edge, target: &Target) -> Target {
    let policies = edge.engine.policies();
    let mut domains = target.domains_without_tier(&policies);
    if domains.is_empty() || edge.api.usage.is_none() {
        return target.clone();
    }
    let directory = edge.engine.directory();
    let lineage = match directory.cached(target.caller()) {
        Some(lineage) => lineage,
        None => directory.lineage(target.caller()).await,
    };
    domains.retain(|domain| !has_tier(&lineage, domain));
    if domains.is_empty() {
        return target.clone();
    }
    let question = query(target.caller(), edge.engine.now());
    // Without an answer, the default applies, as without usage; the answer says so.
    match timeout(LAST_TIER_TIMEOUT, read(edge, question)).await {
        Ok(Ok(reading)) => {
            let mut last: BTreeMap<String, (Timestamp, String)> = BTreeMap::new();
            for (group, total) in &reading.page.groups {
                let [domain, tier] = &group.names[..] else { continue };
                let (Some(name), Some(tier)) = (domain.text(), tier.text()) else { continue };
                let at = total.counts.last_at;
                // A tier that the policy no longer has can't be that of the next request.
                let is_known = domains
                    .iter()
                    .any(|domain| domain.name == name && domain.classes.tier(tier).is_some());
                if is_known && last.get(name).is_none_or(|(before, _)| *before < at) {
                    last.insert(name.to_owned(), (at, tier.to_owned()));
                }
            }
            let tiers = last.into_iter().map(|(domain, (_, tier))| (domain, tier));
            target.with_last_tiers(tiers.collect())
        }
        _ => target.clone(),
    }
}

/// Whether the directory says the tier of a caller.
fn has_tier(lineage: &Lineage, domain: &Domain) -> bool {
    let mut tiers = lineage.members.iter().filter_map(|member| member.caller.tier.as_ref());
    tiers.any(|tier| domain.classes.tier(tier).is_some())
}

/// The tiers under which a caller was counted in the last 31 days, by domain.
fn query(caller: &str, now: Timestamp) -> UsageQuery {
    let granularity = Granularity::Day;
    UsageQuery {
        view: View::Requests,
        granularity,
        from: granularity.oldest(now),
        to: Timestamp::MAX,
        by_time: false,
        group_by: vec![Dimension::Domain, Dimension::Tier],
        named_only: true,
        currency: None,
        filters: vec![(Dimension::Caller, caller.to_owned())],
        rank: Rank::Group,
        range: 0..GROUPS_MAX,
    }
}
