//! What truly happened in a simulation.

/// What truly happened.
#[derive(Default)]
pub struct Truth {
    pub admitted: Vec<Admitted>,
    /// Hits of requests that were admitted, less those that came back.
    pub ledger: u64,
    /// Hits of charges whose answer was lost.
    pub unknown: u64,
    /// Hits that were to come back, in calls that were lost: whether they were made nobody knows, so they aren't made
    /// again.
    pub stuck: u64,
    pub decided: usize,
    pub fallback: usize,
}

pub struct Admitted {
    pub key: usize,
    pub at_ms: u64,
    pub hits: u64,
    /// The sidecar, if it decided by itself, and how often it had heard of the store before.
    pub by: Option<(u32, u64)>,
}
