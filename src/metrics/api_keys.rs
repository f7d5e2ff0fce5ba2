//! Metrics of API keys.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

/// Counters of checks of API keys, by result. There are none while no request is checked.
#[derive(Debug, Default)]
pub struct ApiKeyMetrics(Family<ResultLabel, Counter>);

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

impl ApiKeyMetrics {
    /// Counts from now on.
    pub fn begin(&self) {
        self.0.get_or_create_owned(&ResultLabel { result: "granted" });
    }

    /// Counts a check.
    pub fn count(&self, result: &'static str) {
        self.0.get_or_create(&ResultLabel { result }).inc();
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "api_key_checks",
            "Requests by the result of their API key's check",
            self.0.clone(),
        );
    }
}
