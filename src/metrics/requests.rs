//! Requests by domain and answer.

use prometheus_client::metrics::counter::Counter;

/// The counters of one domain. They are looked up when a policy is loaded, and kept with it.
#[derive(Clone, Debug, Default)]
pub struct DomainMetrics {
    /// Requests that passed.
    pub ok: Counter,
    /// Requests that were refused.
    pub over_limit: Counter,
    /// Requests that failed, because the store was unavailable and `on_outage` is `error`.
    pub error: Counter,
}

/// Requests by answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    pub ok: u64,
    pub over_limit: u64,
    pub error: u64,
}
