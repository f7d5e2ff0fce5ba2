//! What is asked about with all that the API knows of it: the tier that a caller last had, from usage. Where requests say the
//! tier by an entry, the API has no other source for a caller that is not in the directory.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::time::Duration;

use tokio::time::timeout;

use super::params::{AskedTarget, check_domain, invalid, not_found, wrong_resource};
use crate::engine::{Descriptor, HitsSource, Request, Snapshot};
use crate::http::edge::Edge;
use crate::http::problem::Problem;
use crate::http::usage::read;
use crate::limit::Hits;
use crate::policy::{Domain, Lineage};
use crate::store::StoreWait;
use crate::usage::{LastTiers, last_tiers, last_tiers_query};

/// How long usage may take to tell the tier. Then the policy's default applies.
const LAST_TIER_TIMEOUT: Duration = Duration::from_secs(1);

/// How long it may take to tell those of a page of callers.
const LAST_TIERS_TIMEOUT: Duration = Duration::from_secs(5);

/// Descriptors of a domain whose limits one quota shows.
const PATHS_MAX: usize = 64;

/// A caller and more entries of its descriptor, with the tiers that the caller last had. Only this has requests, so none is
/// made before they were asked for.
#[derive(Clone, Debug)]
pub struct Target {
    asked: AskedTarget,
    /// The tier that the caller last had in a domain, where nothing else says it.
    last_tiers: BTreeMap<String, String>,
}

impl Deref for Target {
    type Target = AskedTarget;

    fn deref(&self) -> &AskedTarget {
        &self.asked
    }
}

impl Target {
    /// What is asked about, with the tiers that its caller last had in the domains where neither its entries nor the directory
    /// say the tier.
    pub async fn resolve(edge: &Edge, asked: AskedTarget) -> Self {
        let mut tiers = tiers_of(edge, std::slice::from_ref(&asked)).await;
        let last_tiers = tiers.remove(asked.caller()).unwrap_or_default();
        Self { asked, last_tiers }
    }

    /// The same of a page of callers, with one question to usage; each of them is asked about once.
    pub async fn resolve_all(edge: &Edge, asked: Vec<AskedTarget>) -> Vec<Self> {
        let mut tiers = tiers_of(edge, &asked).await;
        let resolved = asked.into_iter().map(|asked| {
            let last_tiers = tiers.remove(asked.caller()).unwrap_or_default();
            Self { asked, last_tiers }
        });
        resolved.collect()
    }

    /// The request of the caller for so many hits in each domain that is meant.
    pub fn requests<'t>(
        &'t self,
        snapshot: &'t Snapshot,
        hits: Hits,
    ) -> Result<Vec<Request<'t>>, Problem> {
        let domains = snapshot.policies().domains();
        check_domain(snapshot.policies(), self.domain())?;
        let meant = domains.into_iter().filter(|domain| self.means(&domain.name));
        let paths = meant.filter_map(|domain| Some((domain, self.path(domain)?)));
        let paths = paths.flat_map(|(domain, path)| {
            let below = if self.is_below() { domain.paths_below(&path) } else { Vec::new() };
            std::iter::once(path)
                .chain(below)
                .take(PATHS_MAX)
                .map(|path| (domain.name.as_str(), path))
        });
        let requests = paths.map(|(domain, entries)| {
            let descriptor =
                Descriptor { entries, hits, hits_source: HitsSource::Request, limit: None };
            let request = Request::try_new(domain, vec![descriptor])
                .map_err(|error| invalid(error.to_string()))?;
            let last_tier = self.last_tiers.get(domain).map(String::as_str);
            Ok::<_, Problem>(request.of_last_tier(last_tier))
        });
        let requests: Vec<_> = requests.collect::<Result<_, _>>()?;
        if let (Some(domain), true) = (self.domain(), requests.is_empty()) {
            let detail = format!("the policy of domain `{domain}` has no `caller` with a key");
            return Err(wrong_resource(detail));
        }
        if requests.is_empty() {
            let detail = "no policy has limits by caller: none has a `caller` with a key";
            return Err(not_found(detail));
        }
        Ok(requests)
    }

    /// The only one of its requests.
    pub fn request<'t>(
        &'t self,
        snapshot: &'t Snapshot,
        hits: Hits,
    ) -> Result<Request<'t>, Problem> {
        let mut requests = self.requests(snapshot, hits)?;
        if 1 < requests.len() {
            let names: Vec<_> = requests.iter().map(Request::domain).collect();
            let detail = format!("name the `domain`: one of {}", names.join(", "));
            return Err(wrong_resource(detail));
        }
        requests.pop().ok_or_else(|| self.without_limits())
    }
}

/// Checks that there is a rule for the entries of what is asked about, although there is no caller.
///
/// # Errors
/// If there is none.
pub fn check_rules(asked: AskedTarget, hits: Hits, snapshot: &Snapshot) -> Result<(), Problem> {
    let target = Target { asked, last_tiers: BTreeMap::new() };
    let requests = target.requests(snapshot, hits)?;
    let domains = requests.iter().filter_map(|one| snapshot.policies().domain(one.domain()));
    let problems: Vec<Option<Problem>> =
        domains.map(|domain| target.unknown_entry(domain)).collect();
    let is_known = target.entries().is_empty() || problems.iter().any(Option::is_none);
    match problems.into_iter().flatten().next() {
        Some(problem) if !is_known => Err(problem),
        _ => Ok(()),
    }
}

/// The tiers that callers last had, each in the domains where nothing else says its tier.
async fn tiers_of(edge: &Edge, asked: &[AskedTarget]) -> LastTiers {
    if edge.api.usage.is_none() {
        return LastTiers::new();
    }
    let policies = edge.engine.policies();
    let mut lacking: BTreeMap<&str, Vec<&Domain>> = BTreeMap::new();
    for one in asked {
        let mut domains = one.domains_without_tier(&policies);
        if domains.is_empty() {
            continue;
        }
        let directory = edge.engine.directory();
        let lineage = match directory.cached(one.caller()) {
            Some(lineage) => lineage,
            None => directory.lineage(one.caller(), StoreWait::patient()).await,
        };
        domains.retain(|domain| !has_tier(&lineage, domain));
        if !domains.is_empty() {
            lacking.insert(one.caller(), domains);
        }
    }
    if lacking.is_empty() {
        return LastTiers::new();
    }
    let callers = lacking.keys().map(|caller| (*caller).to_owned()).collect();
    let question = last_tiers_query(callers, edge.engine.now());
    let patience = if lacking.len() == 1 { LAST_TIER_TIMEOUT } else { LAST_TIERS_TIMEOUT };
    // Without an answer, the default applies, as without usage; the answer says so.
    match timeout(patience, read(edge, question)).await {
        Ok(Ok(reading)) => {
            // A tier that the policy no longer has can't be that of the next request.
            let is_known = |caller: &str, name: &str, tier: &str| {
                let has =
                    |domain: &&Domain| domain.name == name && domain.classes.tier(tier).is_some();
                lacking.get(caller).is_some_and(|domains| domains.iter().any(has))
            };
            last_tiers(&reading.page, is_known)
        }
        _ => LastTiers::new(),
    }
}

/// Whether the directory says the tier of a caller.
fn has_tier(lineage: &Lineage, domain: &Domain) -> bool {
    let mut tiers = lineage.members.iter().filter_map(|member| member.caller.tier.as_ref());
    tiers.any(|tier| domain.classes.tier(tier).is_some())
}
