//! Metrics of the audit log, and of explanations of refusals.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

/// Counters of the audit log, and of explanations of refusals.
#[derive(Clone, Debug, Default)]
pub struct AuditMetrics {
    /// Lines that were written.
    pub lines: Counter,
    /// Lines of refusals that were not written: the destination was too slow, or failed.
    pub dropped: Counter,
    /// Refusals with an id that are not in Redis.
    pub unstored: Counter,
}

impl AuditMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("audit_lines", "Lines written to the audit log", self.lines.clone());
        registry.register(
            "audit_dropped",
            "Refusals without a line in the audit log, because its destination was too slow or failed",
            self.dropped.clone(),
        );
        registry.register(
            "refusals_unstored",
            "Refusals with an id that only this process can explain, because Redis was unavailable or too slow",
            self.unstored.clone(),
        );
    }
}
