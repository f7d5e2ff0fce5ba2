//! Counts what rules about abuse follow in the records of decisions, for one rule each, within bounds.

mod bursts;
mod distinct;
mod in_order;
mod places;
mod probing;
#[cfg(test)]
mod random;
mod slots;
#[cfg(test)]
mod table;

pub use bursts::BurstCounts;
pub use distinct::DistinctCounts;
pub use places::{Places, Ranked};
pub use probing::ProbeCounts;
pub use slots::{SLOTS, Slots, slot};
