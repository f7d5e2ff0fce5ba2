//! Metrics of the local cache: requests that are decided without a call to the store.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

use super::Level;

/// Counters of the local cache.
#[derive(Debug, Default)]
pub struct LocalCacheMetrics {
    /// Requests that were refused by a cached refusal.
    pub refused: Counter,
    /// Requests that passed by leased hits.
    pub leased: Counter,
    /// Leased hits returned unspent.
    pub returned: Counter,
    /// Leases with hits that may be spent now.
    pub live: Level,
}

impl LocalCacheMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "near_refused",
            "Requests refused by a cached refusal; a call to the store only reads counters of other shards, if there are any",
            self.refused.clone(),
        );
        registry.register(
            "near_leased",
            "Requests admitted from leases, without a call to the store",
            self.leased.clone(),
        );
        registry.register(
            "lease_hits_returned",
            "Leased hits returned unspent",
            self.returned.clone(),
        );
        registry.register("leases", "Active leases", self.live.clone());
    }
}
