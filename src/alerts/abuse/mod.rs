//! Counts what rules about abuse follow in the requests of callers, for one rule each, within bounds.

mod bursts;
mod distinct;
mod places;
mod probing;
#[cfg(test)]
mod random;
mod slots;
#[cfg(test)]
mod table;
mod waiting;

pub use bursts::BurstCounts;
pub use distinct::DistinctCounts;
pub use places::{Places, Ranked};
pub use probing::ProbeCounts;
pub use slots::{SlotLength, Slots};
pub use waiting::{CallerRequests, Counted, SeenRequest, Waiting};
