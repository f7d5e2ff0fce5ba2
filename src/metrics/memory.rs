//! Metrics of the embedded store: its counters, and the counters that it evicted because it was full, by limit.

use std::collections::BTreeSet;
use std::sync::Mutex;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use crate::lock::lock;

use super::Level;

/// Counters of the embedded store.
#[derive(Debug, Default)]
pub struct MemoryMetrics {
    /// Counters in the store.
    pub keys: Level,
    /// Live counters that were evicted because the store was full.
    pub evictions: Counter,
    lost: Family<LostLabels, Counter>,
    /// The limits, as (domain, limit), that may have evictions.
    limits: Mutex<BTreeSet<(String, String)>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LostLabels {
    domain: String,
    limit: String,
    exhausted: &'static str,
}

impl MemoryMetrics {
    /// Counts evicted live counters of a limit, whose callers start from zero. `exhausted`: the callers had no hits
    /// left. Evictions of removed limits are not counted.
    pub fn count_eviction(&self, domain: &str, limit: &str, (exhausted, count): (bool, u64)) {
        let name = (domain.to_owned(), limit.to_owned());
        if lock(&self.limits).contains(&name) {
            self.lost.get_or_create(&labels(&name, exhausted)).inc_by(count);
        }
    }

    /// Removes limits, as (domain, limit), that are not in `limits`, and adds those that are.
    pub fn retain(&self, limits: &BTreeSet<(String, String)>) {
        let mut known = lock(&self.limits);
        for gone in known.difference(limits) {
            for exhausted in [false, true] {
                self.lost.remove(&labels(gone, exhausted));
            }
        }
        for new in limits.difference(&known) {
            for exhausted in [false, true] {
                self.lost.get_or_create(&labels(new, exhausted)).inc_by(0);
            }
        }
        known.clone_from(limits);
    }

    /// Registers them under their public names.
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("memory_keys", "Counters in the embedded store", self.keys.clone());
        registry.register(
            "memory_evictions",
            "Unexpired counters that the embedded store evicted because it was full",
            self.evictions.clone(),
        );
        registry.register(
            "memory_lost",
            "Unexpired counters of a limit that the embedded store evicted because it was full; exhausted: the limit had no hits left",
            self.lost.clone(),
        );
    }
}

fn labels((domain, limit): &(String, String), exhausted: bool) -> LostLabels {
    let exhausted = if exhausted { "true" } else { "false" };
    LostLabels { domain: domain.clone(), limit: limit.clone(), exhausted }
}

#[cfg(test)]
mod tests {
    use super::super::Metrics;
    use super::*;

    #[test]
    fn limits_of_the_policy_alone_are_counted() {
        let metrics = Metrics::new();
        let limits = |name: &str| BTreeSet::from([("shop".to_owned(), name.to_owned())]);
        metrics.memory.retain(&limits("stale"));
        metrics.memory.count_eviction("shop", "stale", (true, 2));
        metrics.memory.retain(&limits("daily"));
        metrics.memory.count_eviction("shop", "stale", (true, 2));
        metrics.memory.count_eviction("shop", "daily", (true, 2));
        metrics.memory.count_eviction("shop", "daily", (true, 1));
        let text = metrics.encode();
        let line = r#"tollgate_memory_lost_total{domain="shop",limit="daily",exhausted="true"} 3"#;
        assert!(text.contains(line) && !text.contains("stale"), "{text}");
    }
}
