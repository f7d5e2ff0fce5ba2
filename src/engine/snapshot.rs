//! A snapshot of the policies in force, with the metrics of their limits.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Throttle, Timestamp};
use crate::limit::Hits;
use crate::metrics::{Counter, DomainMetrics, Gauge, LimitMetrics, Metrics};
use crate::policy::{Domain, Lineage, PolicySet, Rule, RuleLimit};

use super::caller::CallerContext;
use super::controls::ControlsInForce;
use super::debits::DebitWatch;
use super::latencies::Latencies;
use super::reason::Reason;
use super::record::{DecisionRecord, DomainNames, RecordExtras};
use super::reference_counts::ReferenceCounts;
use super::request::Request;
use super::text::Shown;
use super::verdict::{ChargeDecision, Code, Verdict};

/// The label of requests for unknown domains, whose names clients choose.
const UNKNOWN_DOMAIN: &str = "";

/// Minimum time between two log lines about unknown domains.
const UNKNOWN_INTERVAL: Duration = Duration::from_secs(60);

/// Maximum number of known domains in such a line.
const DOMAINS_SHOWN_MAX: usize = 16;

/// The part of a limit, from 0 to 1, above which tollgate_near_limit_total counts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct NearLimit(pub f64);

impl NearLimit {
    /// Whether more than this part of the capacity is in use with these remaining hits. As in the reference, the part
    /// is rounded down.
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
pub struct Snapshot {
    pub(super) policies: Arc<PolicySet>,
    /// Latencies of the names in choices.
    pub(super) latencies: Latencies,
    /// Changes of providers for a while.
    pub(super) controls: ControlsInForce,
    /// Whether a domain has providers.
    pub(super) has_providers: bool,
    domains: HashMap<String, DomainState, foldhash::fast::RandomState>,
    unknown: DomainMetrics,
    unknown_throttle: Throttle,
    near_limit: NearLimit,
}

#[derive(Debug)]
struct DomainState {
    names: Arc<DomainNames>,
    requests: DomainMetrics,
    /// By the limit's index; the last is for limits that requests bring along.
    limits: Vec<LimitMetrics>,
    /// By the limit's index, as above.
    debits: Vec<DebitWatch>,
    /// By the limit's index and the percentage.
    crossings: HashMap<(usize, u16), Counter>,
    /// By the name in a choice.
    chosen: BTreeMap<Box<str>, Counter>,
    retries: Counter,
    access_warnings: Counter,
    /// By [`Reason`], in its order.
    refusals: Vec<Counter>,
    /// By the paths of the rules with pressure levels.
    pressure: BTreeMap<String, Gauge>,
    /// None unless they are enabled.
    reference: Option<ReferenceCounts>,
}

/// The last known level of pressure of one rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pressure {
    pub domain: String,
    /// The rule's path.
    pub rule: String,
    pub level: i64,
}

/// The thresholds of all limits of a domain, in percent.
fn thresholds(domain: &Domain) -> impl Iterator<Item = (&RuleLimit, u16)> {
    domain.limits().into_iter().flat_map(|limit| {
        let percents = limit.limit.thresholds().map(|thresholds| thresholds.percents());
        percents
            .into_iter()
            .flat_map(|percents| percents.iter())
            .map(|percent| (&**limit, *percent))
    })
}

impl DomainState {
    fn note_levels<'r>(&self, levels: impl Iterator<Item = (&'r Rule, u8)>) {
        for (rule, level) in levels {
            self.pressure.get(&rule.path).map(|gauge| gauge.set(i64::from(level)));
        }
    }
}

impl Snapshot {
    /// The policies.
    pub fn policies(&self) -> &PolicySet {
        &self.policies
    }

    /// The policies, with the metrics of their limits.
    pub fn new(policies: PolicySet, near_limit: NearLimit, metrics: &Metrics) -> Self {
        let state = |domain: &Domain| {
            let labels = domain.labels();
            let debits = labels.iter().map(|label| metrics.debits.refused(&domain.name, label));
            let debits = debits.map(DebitWatch::new).collect();
            let crossings = thresholds(domain).map(|(limit, percent)| {
                let counter = metrics.limits.threshold(&domain.name, &limit.label, percent);
                ((limit.index, percent), counter)
            });
            let crossings = crossings.collect();
            let limit = |label: &Arc<str>| metrics.limits.limit(&domain.name, label);
            let limits = labels.iter().map(limit).collect();
            let refusals = Reason::ALL.iter();
            let refusals = refusals.map(|one| metrics.sharing.refusals(&domain.name, one.name()));
            let pressed = domain.rules_with_pressure().into_iter();
            let gauge = |rule: &Rule| {
                (rule.path.clone(), metrics.sharing.pressure(&domain.name, &rule.path))
            };
            let candidates = domain.choices.iter().flat_map(|choice| &choice.candidates);
            let chosen = candidates.map(|candidate| {
                let name = &candidate.name;
                (name.clone(), metrics.sharing.chosen(&domain.name, name))
            });
            let state = DomainState {
                names: Arc::new(DomainNames::new(domain)),
                requests: metrics.domain(&domain.name),
                limits,
                debits,
                crossings,
                refusals: refusals.collect(),
                pressure: pressed.map(gauge).collect(),
                chosen: chosen.collect(),
                retries: metrics.retries.of(&domain.name),
                access_warnings: metrics.sharing.access_warnings(&domain.name),
                reference: ReferenceCounts::new(domain, near_limit.0, &metrics.reference),
            };
            (domain.name.clone(), state)
        };
        let domains = policies.domains().into_iter().map(state).collect();
        let latencies = Latencies::new(&policies);
        let unknown = metrics.domain(UNKNOWN_DOMAIN);
        let unknown_throttle = Throttle::new(UNKNOWN_INTERVAL);
        let has_providers = policies.domains().iter().any(|one| !one.providers().is_empty());
        Self {
            policies: Arc::new(policies),
            latencies,
            controls: ControlsInForce::default(),
            has_providers,
            domains,
            unknown,
            unknown_throttle,
            near_limit,
        }
    }

    /// The caller of a request, under the changes of providers that hold.
    pub(super) fn caller<'a>(
        &self,
        domain: &'a Domain,
        request: &Request<'a>,
        (lineage, now): (Lineage, Timestamp),
    ) -> CallerContext<'a> {
        let mut caller = CallerContext::new(&domain.classes, request, (lineage, now));
        caller.controls = self.controls.of(domain, request, (caller.tier, now));
        caller
    }

    /// Removes the metrics of removed limits and domains.
    pub fn retain_metrics(&self, metrics: &Metrics) {
        let mut domains = BTreeSet::from([UNKNOWN_DOMAIN.to_owned()]);
        let mut limits = BTreeSet::new();
        let mut rules = BTreeSet::new();
        let mut adjusted = BTreeSet::new();
        let mut crossings = BTreeSet::new();
        for domain in self.policies.domains() {
            domains.insert(domain.name.clone());
            let all = domain.labels().into_iter();
            limits.extend(all.map(|label| (domain.name.clone(), label.to_string())));
            let label = |limit: &Arc<RuleLimit>| (domain.name.clone(), limit.label.to_string());
            let follows = |limit: &&Arc<RuleLimit>| limit.adjust.is_some();
            adjusted.extend(domain.limits().into_iter().filter(follows).map(label));
            crossings.extend(
                thresholds(domain).map(|(limit, percent)| {
                    (domain.name.clone(), limit.label.to_string(), percent)
                }),
            );
            let name = |rule: &Rule| (domain.name.clone(), rule.path.clone());
            rules.extend(domain.rules_with_pressure().into_iter().map(name));
        }
        let chosen = self.domains.iter().flat_map(|(domain, state)| {
            state.chosen.keys().map(|name| (domain.clone(), name.to_string()))
        });
        metrics.sharing.retain_chosen(&chosen.collect());
        metrics.sharing.retain(&domains, &rules);
        metrics.retries.retain(&domains);
        metrics.retain_domains(&domains);
        metrics.debits.retain(&limits);
        metrics.limits.retain(&limits);
        metrics.adjustments.retain(&adjusted);
        metrics.limits.retain_thresholds(&crossings);
        metrics.memory.retain(&limits);
        let mut keys = BTreeSet::new();
        self.domains.values().filter_map(|state| state.reference.as_ref()).for_each(|reference| {
            reference.keys(&mut keys);
        });
        metrics.reference.retain(&keys);
    }

    /// The record of a verdict under these policies.
    pub fn record(
        &self,
        verdict: &Verdict<'_>,
        request: &Request<'_>,
        extras: RecordExtras,
    ) -> DecisionRecord {
        let of_domain = self.domains.get(verdict.domain);
        DecisionRecord::new(verdict, request, of_domain.map(|domain| &domain.names), extras)
    }

    /// Counts a verdict on a request: the request, and each of its limits.
    pub fn count(&self, verdict: &Verdict<'_>, request: &Request<'_>, metrics: &Metrics) {
        let of_domain = self.domains.get(verdict.domain);
        let requests = of_domain.map_or(&self.unknown, |domain| &domain.requests);
        match verdict.code() {
            Code::Ok => requests.ok.inc(),
            Code::OverLimit => requests.over_limit.inc(),
            Code::Unavailable => requests.error.inc(),
        };
        if let Some(reference) = of_domain.and_then(|domain| domain.reference.as_ref()) {
            if verdict.code() == Code::Unavailable {
                metrics.reference.store_failed();
            }
            reference.count(verdict, request);
        }
        match of_domain {
            Some(of_domain) => self.count_charges(of_domain, verdict),
            None if self.policies.is_pending() => {}
            None => self.log_unknown(verdict.domain, metrics),
        }
    }

    fn count_charges(&self, of_domain: &DomainState, verdict: &Verdict<'_>) {
        if verdict.code() == Code::OverLimit {
            let reason = verdict.reason();
            let index = Reason::ALL.iter().position(|one| *one == reason);
            index.and_then(|index| of_domain.refusals.get(index)).map(Counter::inc);
        }
        if verdict.is_retry() {
            of_domain.retries.inc();
        }
        if verdict.warns_of_access() {
            of_domain.access_warnings.inc();
        }
        for (index, charge) in verdict.charges().iter().enumerate() {
            if let Some(metrics) = of_domain.limits.get(charge.limit.index) {
                self.count_charge(metrics, verdict, (index, charge));
            }
            if let Some(debits) = of_domain.debits.get(charge.limit.index)
                && !verdict.fallback
            {
                debits.check(verdict.domain, charge);
            }
        }
        for (charge, percents) in verdict.crossed() {
            let crossings = percents.into_iter().map(|percent| (charge.limit.index, percent));
            crossings.filter_map(|crossing| of_domain.crossings.get(&crossing)).for_each(
                |counter| {
                    counter.inc();
                },
            );
        }
        if !verdict.fallback {
            of_domain.note_levels(verdict.levels.iter().copied());
        }
        for choice in verdict.choices.iter().filter(|_| verdict.code() == Code::Ok) {
            of_domain.chosen.get(choice.chosen).map(Counter::inc);
        }
    }

    /// Stores the pressure levels of rules of a domain.
    pub fn note_levels<'r>(&self, domain: &str, levels: impl Iterator<Item = (&'r Rule, u8)>) {
        if let Some(of_domain) = self.domains.get(domain) {
            of_domain.note_levels(levels);
        }
    }

    /// The last known levels of pressure.
    pub fn pressure(&self) -> Vec<Pressure> {
        let mut all = Vec::new();
        for domain in self.policies.domains() {
            let rules =
                self.domains.get(&domain.name).into_iter().flat_map(|state| &state.pressure);
            all.extend(rules.map(|(rule, gauge)| Pressure {
                domain: domain.name.clone(),
                rule: rule.clone(),
                level: gauge.get(),
            }));
        }
        all
    }

    fn count_charge(
        &self,
        metrics: &LimitMetrics,
        verdict: &Verdict<'_>,
        (index, charge): (usize, &ChargeDecision<'_>),
    ) {
        let outcome = match charge {
            _ if verdict.fallback => &metrics.fallback,
            charge if charge.warns() => &metrics.warned,
            charge if charge.is_over() && charge.is_shadow() => &metrics.shadow_refused,
            charge if charge.is_over() => &metrics.refused,
            _ if verdict.code() == Code::Ok => &metrics.admitted,
            // Another limit refused the request: no hits of this one were needed.
            _ => return,
        };
        outcome.charges.inc();
        if charge.is_retry() {
            return;
        }
        let Hits::Spend(hits) = verdict.hits_of(index) else { return };
        outcome.hits.inc_by(hits);
        let spends = hits != 0 && !charge.is_over() && !verdict.fallback;
        if spends && self.near_limit.is_near(charge.capacity, charge.remaining()) {
            metrics.near_limit.inc();
        }
    }

    /// Logs a request for an unknown domain, which passes without limits.
    fn log_unknown(&self, domain: &str, metrics: &Metrics) {
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
            "unknown domain; its requests pass without a limit",
        );
    }
}
