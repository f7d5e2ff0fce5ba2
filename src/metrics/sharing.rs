//! Metrics of limits that callers share: refusals by reason, pressure, waiting.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::Latency;
use crate::lock::lock;

/// Counters of shared limits.
#[derive(Debug, Default)]
pub struct SharingMetrics {
    /// Requests held until there is capacity.
    pub waiting: Gauge,
    /// Time that requests were held.
    pub wait_duration: Latency,
    refusals: Family<RefusalLabels, Counter>,
    access_warnings: Family<AccessLabels, Counter>,
    pressure: Family<PressureLabels, Gauge>,
    chosen: Family<ChosenLabels, Counter>,
    /// The label values of the families, which can't list them.
    live: Mutex<Live>,
}

#[derive(Debug, Default)]
struct Live {
    refusals: BTreeSet<(String, &'static str)>,
    access_warnings: BTreeSet<String>,
    rules: BTreeSet<(String, String)>,
    chosen: BTreeSet<(String, String)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusalLabels {
    domain: String,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AccessLabels {
    domain: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PressureLabels {
    domain: String,
    rule: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ChosenLabels {
    domain: String,
    provider: String,
}

impl SharingMetrics {
    /// The counter of a domain's refusals by reason. The same labels have the same counter.
    pub fn refusals(&self, domain: &str, reason: &'static str) -> Counter {
        lock(&self.live).refusals.insert((domain.to_owned(), reason));
        self.refusals.get_or_create_owned(&refusal_labels(domain, reason))
    }

    /// The counter of a domain's requests that `only` would refuse. The same name has the same counter.
    pub fn access_warnings(&self, domain: &str) -> Counter {
        lock(&self.live).access_warnings.insert(domain.to_owned());
        self.access_warnings.get_or_create_owned(&AccessLabels { domain: domain.to_owned() })
    }

    /// Refusals so far by reason, of all domains.
    pub fn refusals_by_reason(&self) -> BTreeMap<&'static str, u64> {
        let mut sums = BTreeMap::new();
        for (domain, reason) in &lock(&self.live).refusals {
            let labels = refusal_labels(domain, reason);
            let count = self.refusals.get_or_create(&labels).get();
            *sums.entry(*reason).or_default() += count;
        }
        sums
    }

    /// The level of pressure of a rule. The same labels have the same gauge.
    pub fn pressure(&self, domain: &str, rule: &str) -> Gauge {
        lock(&self.live).rules.insert((domain.to_owned(), rule.to_owned()));
        self.pressure.get_or_create_owned(&pressure_labels(domain, rule))
    }

    /// The counter of a name that a choice of the domain may select. The same labels have the same counter.
    pub fn chosen(&self, domain: &str, name: &str) -> Counter {
        lock(&self.live).chosen.insert((domain.to_owned(), name.to_owned()));
        self.chosen.get_or_create_owned(&chosen_labels(domain, name))
    }

    /// Removes names of choices, as (domain, name), that are not in `names`.
    pub fn retain_chosen(&self, names: &BTreeSet<(String, String)>) {
        lock(&self.live).chosen.retain(|name| {
            let keep = names.contains(name);
            if !keep {
                self.chosen.remove(&chosen_labels(&name.0, &name.1));
            }
            keep
        });
    }

    /// Removes domains that are not in `domains`, and rules, as (domain, rule), that are not in `rules`.
    pub fn retain(&self, domains: &BTreeSet<String>, rules: &BTreeSet<(String, String)>) {
        let mut live = lock(&self.live);
        live.refusals.retain(|(domain, reason)| {
            let keep = domains.contains(domain);
            if !keep {
                self.refusals.remove(&refusal_labels(domain, reason));
            }
            keep
        });
        live.access_warnings.retain(|domain| {
            let keep = domains.contains(domain);
            if !keep {
                self.access_warnings.remove(&AccessLabels { domain: domain.clone() });
            }
            keep
        });
        live.rules.retain(|name| {
            let keep = rules.contains(name);
            if !keep {
                self.pressure.remove(&pressure_labels(&name.0, &name.1));
            }
            keep
        });
    }

    /// Registers them under their public names.
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("refusals", "Refused requests by reason", self.refusals.clone());
        registry.register(
            "access_warnings",
            "Requests that passed although `only` does not allow them, in the mode `warn` or outside of `enforce`",
            self.access_warnings.clone(),
        );
        registry.register(
            "pressure_level",
            "Last seen level of pressure of a rule's capacity",
            self.pressure.clone(),
        );
        registry.register(
            "chosen",
            "Admitted requests by the provider that a choice selected",
            self.chosen.clone(),
        );
        registry.register(
            "waiting_requests",
            "Requests held until there is capacity",
            self.waiting.clone(),
        );
        registry.register(
            "wait_duration_seconds",
            "Time that requests were held, including requests refused later",
            self.wait_duration.clone(),
        );
    }
}

fn refusal_labels(domain: &str, reason: &'static str) -> RefusalLabels {
    RefusalLabels { domain: domain.to_owned(), reason }
}

fn chosen_labels(domain: &str, name: &str) -> ChosenLabels {
    ChosenLabels { domain: domain.to_owned(), provider: name.to_owned() }
}

fn pressure_labels(domain: &str, rule: &str) -> PressureLabels {
    PressureLabels { domain: domain.to_owned(), rule: rule.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::super::Metrics;
    use super::*;

    #[test]
    fn what_is_gone_leaves_no_series() {
        let metrics = Metrics::new();
        metrics.sharing.refusals("stale", "disabled").inc();
        metrics.sharing.refusals("shop", "disabled").inc();
        metrics.sharing.access_warnings("stale").inc();
        metrics.sharing.chosen("shop", "acme").inc();
        metrics.sharing.chosen("shop", "stale").inc();
        metrics.sharing.retain_chosen(&BTreeSet::from([("shop".to_owned(), "acme".to_owned())]));
        metrics.sharing.pressure("shop", "provider=a").set(2);
        metrics.sharing.pressure("shop", "provider=b").set(1);
        metrics.sharing.retain(
            &BTreeSet::from(["shop".to_owned()]),
            &BTreeSet::from([("shop".to_owned(), "provider=a".to_owned())]),
        );
        let text = metrics.encode();
        assert!(!text.contains("stale") && !text.contains("provider=b"), "{text}");
        for line in [
            r#"tollgate_refusals_total{domain="shop",reason="disabled"} 1"#,
            r#"tollgate_chosen_total{domain="shop",provider="acme"} 1"#,
            r#"tollgate_pressure_level{domain="shop",rule="provider=a"} 2"#,
            "tollgate_waiting_requests 0",
            "tollgate_wait_duration_seconds_count 0",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }
}
