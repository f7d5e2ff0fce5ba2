//! Metrics of the local cache: requests that are decided without asking the store.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

use super::Level;

/// What is counted of requests that are decided without asking the store.
#[derive(Debug, Default)]
pub struct LocalCacheMetrics {
    /// Requests that were refused because the store's refusal was known to hold.
    pub refused: Counter,
    /// Requests that passed by hits that were taken ahead.
    pub leased: Counter,
    /// Hits that were taken ahead and went back unspent.
    pub returned: Counter,
    /// Leases that may be spent now.
    pub live: Level,
}

impl LocalCacheMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "near_refused",
            "Requests that were refused without asking the store, whose refusal was known to hold",
            self.refused.clone(),
        );
        registry.register(
            "near_leased",
            "Requests that passed without asking the store, by hits that were taken ahead",
            self.leased.clone(),
        );
        registry.register(
            "lease_hits_returned",
            "Hits that were taken ahead and went back unspent",
            self.returned.clone(),
        );
        registry.register("leases", "Leases that may be spent now", self.live.clone());
    }
}
