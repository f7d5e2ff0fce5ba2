//! Metrics of each limit: charges and hits, by their outcome.

use std::collections::BTreeSet;
use std::sync::Mutex;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use crate::lock::lock;

/// Counters of the limits.
#[derive(Debug, Default)]
pub struct LimitsMetrics {
    decisions: Family<DecisionLabels, Counter>,
    hits: Family<DecisionLabels, Counter>,
    near_limit: Family<LimitLabels, Counter>,
    crossings: Family<ThresholdLabels, Counter>,
    /// The label values of the families, as (domain, limit), which can't list them.
    live: Mutex<BTreeSet<(String, String)>>,
    /// The label values for thresholds, as (domain, limit, percent).
    live_thresholds: Mutex<BTreeSet<(String, String, u16)>>,
}

/// The counters of one limit. They are looked up when a policy is loaded, and kept with it.
#[derive(Clone, Debug, Default)]
pub struct LimitMetrics {
    /// Charges that the limit admitted, in requests that passed.
    pub admitted: OutcomeMetrics,
    /// Charges that the limit refused.
    pub refused: OutcomeMetrics,
    /// Charges that a shadow limit would have refused.
    pub shadow_refused: OutcomeMetrics,
    /// What a limit in the mode `warn` would have refused.
    pub warned: OutcomeMetrics,
    /// Charges that `on_outage` decided, because the store was unavailable.
    pub fallback: OutcomeMetrics,
    /// Admitted charges after which more than `near_limit_ratio` of the limit was in use.
    pub near_limit: Counter,
}

/// The counters of one limit and outcome.
#[derive(Clone, Debug, Default)]
pub struct OutcomeMetrics {
    pub charges: Counter,
    /// Requested hits.
    pub hits: Counter,
}

const ADMITTED: &str = "admitted";
const REFUSED: &str = "refused";
const SHADOW_REFUSED: &str = "shadow_refused";
const WARNED: &str = "warned";
const FALLBACK: &str = "fallback";
const OUTCOMES: [&str; 5] = [ADMITTED, REFUSED, SHADOW_REFUSED, WARNED, FALLBACK];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DecisionLabels {
    domain: String,
    limit: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LimitLabels {
    domain: String,
    limit: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ThresholdLabels {
    domain: String,
    limit: String,
    threshold: String,
}

impl LimitsMetrics {
    /// The counters of a limit. The same names have the same counters.
    pub fn limit(&self, domain: &str, limit: &str) -> LimitMetrics {
        lock(&self.live).insert((domain.to_owned(), limit.to_owned()));
        let decision = |outcome| {
            let labels = decision_labels(domain, limit, outcome);
            OutcomeMetrics {
                charges: self.decisions.get_or_create_owned(&labels),
                hits: self.hits.get_or_create_owned(&labels),
            }
        };
        LimitMetrics {
            admitted: decision(ADMITTED),
            refused: decision(REFUSED),
            shadow_refused: decision(SHADOW_REFUSED),
            warned: decision(WARNED),
            fallback: decision(FALLBACK),
            near_limit: self.near_limit.get_or_create_owned(&limit_labels(domain, limit)),
        }
    }

    /// The counter of a threshold of a limit, in percent. The same names have the same counter.
    pub fn threshold(&self, domain: &str, limit: &str, percent: u16) -> Counter {
        let mut live = lock(&self.live_thresholds);
        live.insert((domain.to_owned(), limit.to_owned(), percent));
        self.crossings.get_or_create_owned(&threshold_labels(domain, limit, percent))
    }

    /// Removes thresholds, as (domain, limit, percent), that are not in `names`.
    pub fn retain_thresholds(&self, names: &BTreeSet<(String, String, u16)>) {
        lock(&self.live_thresholds).retain(|name| {
            let keep = names.contains(name);
            if !keep {
                self.crossings.remove(&threshold_labels(&name.0, &name.1, name.2));
            }
            keep
        });
    }

    /// Removes limits, as (domain, limit), that are not in `names`.
    pub fn retain(&self, names: &BTreeSet<(String, String)>) {
        lock(&self.live).retain(|name| {
            let keep = names.contains(name);
            if !keep {
                let (domain, limit) = name;
                for outcome in OUTCOMES {
                    self.decisions.remove(&decision_labels(domain, limit, outcome));
                    self.hits.remove(&decision_labels(domain, limit, outcome));
                }
                self.near_limit.remove(&limit_labels(domain, limit));
            }
            keep
        });
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "decisions",
            "Charges by the outcome at their limit",
            self.decisions.clone(),
        );
        registry.register(
            "hits",
            "Requested hits by the outcome at their limit",
            self.hits.clone(),
        );
        registry.register(
            "near_limit",
            "Admitted charges after which more than near_limit_ratio of the limit was in use",
            self.near_limit.clone(),
        );
        registry.register(
            "threshold_crossings",
            "Crossed thresholds of limits, each counted once for each caller and window",
            self.crossings.clone(),
        );
    }
}

fn decision_labels(domain: &str, limit: &str, outcome: &'static str) -> DecisionLabels {
    DecisionLabels { domain: domain.to_owned(), limit: limit.to_owned(), outcome }
}

fn threshold_labels(domain: &str, limit: &str, percent: u16) -> ThresholdLabels {
    let threshold = percent.to_string();
    ThresholdLabels { domain: domain.to_owned(), limit: limit.to_owned(), threshold }
}

fn limit_labels(domain: &str, limit: &str) -> LimitLabels {
    LimitLabels { domain: domain.to_owned(), limit: limit.to_owned() }
}
