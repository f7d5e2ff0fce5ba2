//! The policies in force, with the metrics of their limits looked up once.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::sync::Arc;

use crate::metrics::ChosenMetrics;
use crate::metrics::DomainMetrics;
use crate::metrics::LimitMetrics;
use crate::metrics::Metrics;
use crate::policy::Domain;
use crate::policy::OVERRIDE_LABEL;
use crate::policy::PolicySet;

use super::Code;
use super::answer::Charged;
use super::answer::Judgement;
use super::latencies::Latencies;

/// The label of requests for domains without a policy, whose names callers choose.
const UNKNOWN_DOMAIN: &str = "";

/// A limit is near its end when less than one part in so many remains.
const NEAR_PART: u64 = 5;

/// The policies in force.
#[derive(Debug)]
pub struct Live {
    pub policies: Arc<PolicySet>,
    /// Of those that the policies may choose.
    pub latencies: Latencies,
    domains: HashMap<String, LiveDomain, foldhash::fast::RandomState>,
    unknown: DomainMetrics,
}

#[derive(Debug)]
struct LiveDomain {
    requests: DomainMetrics,
    /// By the limit's index; the last is for limits that requests bring along.
    limits: Vec<LimitMetrics>,
    /// By the name that a choice may choose.
    chosen: BTreeMap<Box<str>, ChosenMetrics>,
}

impl Live {
    pub fn new(policies: PolicySet, metrics: &Metrics) -> Self {
        let live = |domain: &Domain| {
            let mut labels = vec![OVERRIDE_LABEL; domain.limit_count() + 1];
            let limits = domain.limits();
            limits.iter().for_each(|limit| labels[limit.index] = &limit.label);
            let limit = |label| metrics.limit(&domain.name, label);
            let limits = labels.into_iter().map(limit).collect();
            let chosen = domain.choices.iter().flat_map(|choice| &choice.candidates);
            let chosen = chosen
                .map(|one| (one.name.clone(), metrics.chosen(&domain.name, &one.name)))
                .collect();
            let requests = metrics.domain(&domain.name);
            (domain.name.clone(), LiveDomain { requests, limits, chosen })
        };
        let domains = policies.domains().into_iter().map(live).collect();
        let latencies = Latencies::new(&policies);
        let unknown = metrics.domain(UNKNOWN_DOMAIN);
        Self { policies: Arc::new(policies), latencies, domains, unknown }
    }

    /// Forgets the metrics of limits and domains that are no longer there.
    pub fn retain_metrics(&self, metrics: &Metrics) {
        let mut domains = BTreeSet::from([UNKNOWN_DOMAIN.to_owned()]);
        let mut limits = BTreeSet::new();
        for domain in self.policies.domains() {
            domains.insert(domain.name.clone());
            limits.insert((domain.name.clone(), OVERRIDE_LABEL.to_owned()));
            let label = |limit: &Arc<crate::policy::RuleLimit>| {
                (domain.name.clone(), limit.label.to_string())
            };
            limits.extend(domain.limits().into_iter().map(label));
        }
        let chosen = self.domains.iter().flat_map(|(domain, live)| {
            live.chosen.keys().map(|name| (domain.clone(), name.to_string()))
        });
        metrics.retain_chosen(&chosen.collect());
        metrics.retain_domains(&domains);
        metrics.retain_limits(&limits);
    }

    /// Counts a request of a domain.
    pub fn count_request(&self, domain: &str, code: Code) {
        let requests = self.domains.get(domain).map_or(&self.unknown, |domain| &domain.requests);
        match code {
            Code::Ok => requests.ok.inc(),
            Code::OverLimit => requests.over_limit.inc(),
        };
    }

    /// Counts a request of a domain that was passed on to the chosen one.
    pub fn count_chosen(&self, domain: &str, name: &str) {
        let live = self.domains.get(domain);
        if let Some(chosen) = live.and_then(|domain| domain.chosen.get(name)) {
            chosen.requests.inc();
        }
    }

    /// Counts the decisions of a request.
    pub fn count(&self, domain: &Domain, judgement: &Judgement<'_>) {
        let Some(live) = self.domains.get(&domain.name) else { return };
        for charged in judgement.charges() {
            let Some(metrics) = live.limits.get(charged.limit.index) else { continue };
            match charged {
                Charged { decision: None, .. } => metrics.fallback.inc(),
                charged if charged.over() && charged.is_shadow() => metrics.shadow_refused.inc(),
                charged if charged.over() => metrics.refused.inc(),
                _ if judgement.admitted() => metrics.admitted.inc(),
                // Another limit refused the request: this one was not asked to spend anything.
                _ => 0,
            };
            let near = |standing: crate::limit::Standing| {
                standing.remaining < charged.capacity().div_ceil(NEAR_PART)
            };
            if charged.decision.is_some_and(|decision| near(decision.standing)) {
                metrics.near.inc();
            }
        }
    }
}
