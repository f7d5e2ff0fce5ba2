//! The true counts of a simulation.

/// The true counts.
#[derive(Default)]
pub struct Truth {
    pub admitted: Vec<Admitted>,
    /// Hits of admitted requests, minus those that were given back.
    pub ledger: u64,
    /// Hits of charges whose answer was lost.
    pub unknown: u64,
    /// Hits to give back in calls that were lost: it is unknown whether they were made, so they aren't repeated.
    pub stuck: u64,
    pub decided: usize,
    pub fallback: usize,
}

pub struct Admitted {
    pub key: usize,
    pub at_ms: u64,
    pub hits: u64,
    /// The sidecar, if it decided by itself, and the number of confirmed decisions before.
    pub by: Option<(u32, u64)>,
}
