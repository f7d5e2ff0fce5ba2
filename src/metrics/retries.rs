//! Metrics of retries: requests that an earlier attempt paid for.

use std::collections::BTreeSet;
use std::sync::Mutex;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use crate::lock::lock;

/// Counters of retries.
#[derive(Debug, Default)]
pub struct RetryMetrics {
    passed: Family<RetryLabels, Counter>,
    /// The label values of the family, which can't list them.
    live: Mutex<BTreeSet<String>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RetryLabels {
    domain: String,
}

impl RetryMetrics {
    /// The counter of a domain. The same name has the same counter.
    pub fn of(&self, domain: &str) -> Counter {
        lock(&self.live).insert(domain.to_owned());
        self.passed.get_or_create_owned(&labels(domain))
    }

    /// Removes domains that are not in `domains`.
    pub fn retain(&self, domains: &BTreeSet<String>) {
        lock(&self.live).retain(|domain| {
            let keep = domains.contains(domain);
            if !keep {
                self.passed.remove(&labels(domain));
            }
            keep
        });
    }

    /// Registers them under their public names.
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "retries",
            "Requests that passed as retries: limits that an earlier attempt charged were not charged again",
            self.passed.clone(),
        );
    }
}

fn labels(domain: &str) -> RetryLabels {
    RetryLabels { domain: domain.to_owned() }
}
