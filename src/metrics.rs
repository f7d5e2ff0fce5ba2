//! What Tollgate counts about itself, under the names that `/metrics` shows.

use prometheus_client::metrics::counter::Counter;

/// Everything that is counted.
#[derive(Debug, Default)]
pub struct Metrics {}

/// The counters of one limit, looked up when a policy is loaded and kept beside it.
#[derive(Clone, Debug, Default)]
pub struct LimitMetrics {
    /// Charges that the limit had the hits for, in requests that passed.
    pub admitted: Counter,
    /// Charges that the limit did not have the hits for and refused.
    pub refused: Counter,
    /// Charges that a shadow limit would have refused.
    pub shadow_refused: Counter,
    /// Charges after which less than a fifth of the limit remained.
    pub near: Counter,
    /// Charges that `on_outage` decided because the store was out.
    pub fallback: Counter,
}
