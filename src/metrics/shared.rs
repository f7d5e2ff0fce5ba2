//! Metrics of a store that several sidecars share.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Counters of a store that several sidecars share.
#[derive(Debug, Default)]
pub struct SharedMetrics {
    health: Family<HealthLabel, Gauge>,
    /// How often the circuit breaker of the store opened: after failed requests, or a lost connection.
    pub breaks: Counter,
    /// Reconnections.
    pub reconnects: Counter,
    /// Hits that were spent while the store was unavailable, and charged since.
    pub paid: Counter,
    /// Number of sidecars that share a limit while the store is unavailable.
    pub sidecars: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HealthLabel {
    state: &'static str,
}

/// The states of the store.
const STATES: [&str; 3] = ["healthy", "broken", "probing"];

impl SharedMetrics {
    /// Records the state of the store.
    pub fn set_health(&self, name: &str) {
        for state in STATES {
            self.health.get_or_create(&HealthLabel { state }).set(i64::from(state == name));
        }
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "store_health",
            "1 for the current state of the shared store; it receives requests only while healthy",
            self.health.clone(),
        );
        registry.register(
            "store_breaks",
            "Times that the shared store became unavailable and its circuit breaker opened",
            self.breaks.clone(),
        );
        registry.register(
            "store_reconnects",
            "Reconnections to the shared store",
            self.reconnects.clone(),
        );
        registry.register(
            "fallback_hits_paid",
            "Hits spent while the shared store was unavailable and charged to it later",
            self.paid.clone(),
        );
        registry.register(
            "sidecars",
            "Number of sidecars that share a limit while the shared store is unavailable",
            self.sidecars.clone(),
        );
    }
}
