//! The tier that a caller last had, from usage: where requests say the tier by an entry, the API has no other source for a
//! caller that is not in the directory.

use std::time::Duration;

use tokio::time::timeout;

use super::reading::read;
use crate::http::edge::Edge;
use crate::http::quota::params::Target;
use crate::policy::{Domain, Lineage};
use crate::store::StoreWait;
use crate::usage::{last_tiers, last_tiers_query};

/// How long usage may take to tell the tier. Then the policy's default applies.
const LAST_TIER_TIMEOUT: Duration = Duration::from_secs(1);

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
        None => directory.lineage(target.caller(), StoreWait::patient()).await,
    };
    domains.retain(|domain| !has_tier(&lineage, domain));
    if domains.is_empty() {
        return target.clone();
    }
    let question = last_tiers_query(target.caller(), edge.engine.now());
    // Without an answer, the default applies, as without usage; the answer says so.
    match timeout(LAST_TIER_TIMEOUT, read(edge, question)).await {
        Ok(Ok(reading)) => {
            // A tier that the policy no longer has can't be that of the next request.
            let is_known = |name: &str, tier: &str| {
                domains
                    .iter()
                    .any(|domain| domain.name == name && domain.classes.tier(tier).is_some())
            };
            target.with_last_tiers(last_tiers(&reading.page, is_known))
        }
        _ => target.clone(),
    }
}

/// Whether the directory says the tier of a caller.
fn has_tier(lineage: &Lineage, domain: &Domain) -> bool {
    let mut tiers = lineage.members.iter().filter_map(|member| member.caller.tier.as_ref());
    tiers.any(|tier| domain.classes.tier(tier).is_some())
}
