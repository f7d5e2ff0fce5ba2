//! Metrics of debits: hits that are charged after the response, when its cost is known.

use std::collections::BTreeSet;
use std::sync::Mutex;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use crate::lock::lock;

/// Counters of debits.
#[derive(Debug, Default)]
pub struct DebitMetrics {
    refused: Family<DebitLabels, Counter>,
    /// The label values of the family, which can't list them.
    live: Mutex<BTreeSet<(String, String)>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DebitLabels {
    domain: String,
    limit: String,
}

impl DebitMetrics {
    /// The counter of charges of more than one hit that a limit refused, although it is also checked before the
    /// response. They cost nothing. The same names have the same counter.
    pub fn refused(&self, domain: &str, limit: &str) -> Counter {
        let mut live = lock(&self.live);
        live.insert((domain.to_owned(), limit.to_owned()));
        self.refused.get_or_create_owned(&labels(domain, limit))
    }

    /// Removes limits, as (domain, limit), that are not in `limits`.
    pub fn retain(&self, limits: &BTreeSet<(String, String)>) {
        let mut live = lock(&self.live);
        live.retain(|name| {
            let keep = limits.contains(name);
            if !keep {
                self.refused.remove(&labels(&name.0, &name.1));
            }
            keep
        });
    }

    /// Registers them under their public names.
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "refused_debits",
            "Charges of more than one hit that were refused and cost nothing, at limits that are also checked before the response",
            self.refused.clone(),
        );
    }
}

fn labels(domain: &str, limit: &str) -> DebitLabels {
    DebitLabels { domain: domain.to_owned(), limit: limit.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::super::Metrics;
    use super::*;

    #[test]
    fn a_limit_that_is_gone_leaves_no_series() {
        let metrics = Metrics::new();
        metrics.debits.refused("llm", "stale").inc();
        metrics.debits.refused("llm", "tokens").inc();
        metrics.debits.retain(&BTreeSet::from([("llm".to_owned(), "tokens".to_owned())]));
        let text = metrics.encode();
        assert!(!text.contains("stale"), "{text}");
        let line = r#"tollgate_refused_debits_total{domain="llm",limit="tokens"} 1"#;
        assert!(text.contains(line), "{text}");
    }
}
