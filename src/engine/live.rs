//! The policies in force, with the metrics of their limits looked up once.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Throttle;
use crate::limit::Hits;
use crate::metrics::Counter;
use crate::metrics::DomainMetrics;
use crate::metrics::Gauge;
use crate::metrics::LimitMetrics;
use crate::metrics::Metrics;
use crate::policy::Domain;
use crate::policy::OVERRIDE_LABEL;
use crate::policy::PolicySet;
use crate::policy::Rule;
use crate::store::Outcome;

use super::Code;
use super::Reason;
use super::answer::Charged;
use super::answer::Judgement;
use super::debits::DebitWatch;
use super::latencies::Latencies;
use super::plan::Plan;
use super::text::Shown;

/// The label of requests for domains without a policy, whose names callers choose.
const UNKNOWN_DOMAIN: &str = "";

/// The least time between two lines of the log about domains without a policy.
const UNKNOWN_INTERVAL: Duration = Duration::from_secs(60);

/// Domains that such a line names.
const DOMAINS_SHOWN_MAX: usize = 16;

/// When a limit is near its end: when more than this part of it is in use, from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NearLimit(pub f64);

impl NearLimit {
    /// Whether a limit of that capacity is near its end when so many hits remain. As in the reference, the part is
    /// rounded down.
    fn is_near(self, capacity: u64, remaining: u64) -> bool {
        let used = capacity.saturating_sub(remaining);
        (capacity as f64 * self.0).floor() < used as f64
    }
}

impl Default for NearLimit {
    /// 0.8, as in the reference.
    fn default() -> Self {
        Self(0.8)
    }
}

/// The policies in force.
#[derive(Debug)]
pub struct Live {
    pub policies: Arc<PolicySet>,
    /// Of those that the policies may choose.
    pub latencies: Latencies,
    domains: HashMap<String, LiveDomain, foldhash::fast::RandomState>,
    unknown: DomainMetrics,
    unknown_throttle: Throttle,
    near: NearLimit,
}

#[derive(Debug)]
struct LiveDomain {
    requests: DomainMetrics,
    /// By the limit's index; the last is for limits that requests bring along.
    limits: Vec<LimitMetrics>,
    /// The same.
    debits: Vec<DebitWatch>,
    /// By the name that a choice may choose.
    chosen: BTreeMap<Box<str>, Counter>,
    /// By [`Reason`], in its order.
    refusals: Vec<Counter>,
    /// By the paths of the rules that can come under pressure.
    pressure: BTreeMap<String, Gauge>,
}

/// The level of pressure of one rule, as last seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pressure {
    pub domain: String,
    /// The rule's path.
    pub rule: String,
    pub level: i64,
}

impl Live {
    pub fn new(policies: PolicySet, near: NearLimit, metrics: &Metrics) -> Self {
        let live = |domain: &Domain| {
            let mut labels = vec![OVERRIDE_LABEL; domain.limit_count() + 1];
            let limits = domain.limits();
            limits.iter().for_each(|limit| labels[limit.index] = &limit.label);
            let debits = labels.iter().map(|label| metrics.debits.refused(&domain.name, label));
            let debits = debits.map(DebitWatch::new).collect();
            let limit = |label| metrics.limits.limit(&domain.name, label);
            let limits = labels.into_iter().map(limit).collect();
            let refusals = Reason::ALL.iter();
            let refusals = refusals.map(|one| metrics.sharing.refusals(&domain.name, one.name()));
            let pressed = domain.pressed_rules().into_iter();
            let gauge = |rule: &Rule| {
                (rule.path.clone(), metrics.sharing.pressure(&domain.name, &rule.path))
            };
            let candidates = domain.choices.iter().flat_map(|choice| &choice.candidates);
            let chosen = candidates.map(|candidate| {
                let name = &candidate.name;
                (name.clone(), metrics.sharing.chosen(&domain.name, name))
            });
            let live = LiveDomain {
                requests: metrics.domain(&domain.name),
                limits,
                debits,
                refusals: refusals.collect(),
                pressure: pressed.map(gauge).collect(),
                chosen: chosen.collect(),
            };
            (domain.name.clone(), live)
        };
        let domains = policies.domains().into_iter().map(live).collect();
        let latencies = Latencies::new(&policies);
        let unknown = metrics.domain(UNKNOWN_DOMAIN);
        let unknown_throttle = Throttle::new(UNKNOWN_INTERVAL);
        let policies = Arc::new(policies);
        Self { policies, latencies, domains, unknown, unknown_throttle, near }
    }

    /// Forgets the metrics of limits and domains that are no longer there.
    pub fn retain_metrics(&self, metrics: &Metrics) {
        let mut domains = BTreeSet::from([UNKNOWN_DOMAIN.to_owned()]);
        let mut limits = BTreeSet::new();
        let mut rules = BTreeSet::new();
        for domain in self.policies.domains() {
            domains.insert(domain.name.clone());
            limits.insert((domain.name.clone(), OVERRIDE_LABEL.to_owned()));
            let label = |limit: &Arc<crate::policy::RuleLimit>| {
                (domain.name.clone(), limit.label.to_string())
            };
            limits.extend(domain.limits().into_iter().map(label));
            let name = |rule: &Rule| (domain.name.clone(), rule.path.clone());
            rules.extend(domain.pressed_rules().into_iter().map(name));
        }
        let chosen = self.domains.iter().flat_map(|(domain, live)| {
            live.chosen.keys().map(|name| (domain.clone(), name.to_string()))
        });
        metrics.sharing.retain_chosen(&chosen.collect());
        metrics.sharing.retain(&domains, &rules);
        metrics.retain_domains(&domains);
        metrics.debits.retain(&limits);
        metrics.limits.retain(&limits);
        metrics.memory.retain(&limits);
    }

    /// Counts a request of a domain.
    pub fn count_request(&self, domain: &str, code: Code) {
        let requests = self.domains.get(domain).map_or(&self.unknown, |domain| &domain.requests);
        match code {
            Code::Ok => requests.ok.inc(),
            Code::OverLimit => requests.over_limit.inc(),
            Code::Unavailable => requests.error.inc(),
        };
    }

    /// Counts a request of a domain that was passed on to the chosen one.
    pub fn count_chosen(&self, domain: &str, name: &str) {
        let live = self.domains.get(domain);
        if let Some(chosen) = live.and_then(|domain| domain.chosen.get(name)) {
            chosen.inc();
        }
    }

    /// Takes down the levels of pressure that a request met.
    pub fn press(&self, domain: &Domain, plan: &Plan<'_>, outcome: &Outcome) {
        let live = self.domains.get(&domain.name).filter(|_| !outcome.fallback);
        let Some(live) = live else { return };
        for (rule, level) in plan.gauges.iter().zip(&outcome.levels) {
            live.pressure.get(&rule.path).map(|gauge| gauge.set(i64::from(*level)));
        }
    }

    /// The levels of pressure, as last seen.
    pub fn pressure(&self) -> Vec<Pressure> {
        let mut all = Vec::new();
        for domain in self.policies.domains() {
            let rules = self.domains.get(&domain.name).into_iter().flat_map(|live| &live.pressure);
            all.extend(rules.map(|(rule, gauge)| Pressure {
                domain: domain.name.clone(),
                rule: rule.clone(),
                level: gauge.get(),
            }));
        }
        all
    }

    /// Counts the decisions of a request.
    pub fn count(&self, domain: &Domain, judgement: &Judgement<'_>) {
        let Some(live) = self.domains.get(&domain.name) else { return };
        if judgement.code() == Code::OverLimit {
            let reason = judgement.reason();
            let index = Reason::ALL.iter().position(|one| *one == reason);
            index.and_then(|index| live.refusals.get(index)).map(Counter::inc);
        }
        for charged in judgement.charges() {
            if let Some(metrics) = live.limits.get(charged.limit.index) {
                self.count_charge(metrics, judgement, charged);
            }
            if let Some(debits) = live.debits.get(charged.limit.index)
                && !judgement.is_fallback()
            {
                debits.see(&domain.name, charged);
            }
        }
    }

    fn count_charge(
        &self,
        metrics: &LimitMetrics,
        judgement: &Judgement<'_>,
        charged: &Charged<'_>,
    ) {
        let outcome = match charged {
            _ if judgement.is_fallback() => &metrics.fallback,
            charged if charged.over() && charged.is_shadow() => &metrics.shadow_refused,
            charged if charged.over() => &metrics.refused,
            _ if judgement.code() == Code::Ok => &metrics.admitted,
            // Another limit refused the request: this one was not asked to spend anything.
            _ => return,
        };
        outcome.charges.inc();
        let Hits::Spend(hits) = charged.hits() else { return };
        outcome.hits.inc_by(hits);
        let spends = hits != 0 && !charged.over() && !judgement.is_fallback();
        let remaining = charged.decision.standing.remaining;
        if spends && self.near.is_near(charged.capacity(), remaining) {
            metrics.near.inc();
        }
    }

    /// Tells of a request for a domain without a policy, which passes whatever its limits were meant to be.
    pub fn tell_of_unknown(&self, domain: &str, metrics: &Metrics) {
        metrics.unknown_domains.inc();
        let Some(unlogged) = self.unknown_throttle.pass() else { return };
        let known = self.policies.domains();
        let mut names: Vec<String> = known
            .iter()
            .take(DOMAINS_SHOWN_MAX)
            .map(|domain| Shown::new(&domain.name).to_string())
            .collect();
        if names.len() < known.len() {
            names.push(format!("and {} more", known.len() - names.len()));
        }
        tracing::warn!(
            domain = %Shown::new(domain),
            known = names.join(", "),
            unlogged,
            "no policy has the domain of a request, so the request passes without a limit",
        );
    }
}
