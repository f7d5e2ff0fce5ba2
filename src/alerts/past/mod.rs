//! What rules see in stored usage: spend, spikes, callers that are refused, limits that will be used up; and when rules would
//! have fired in the past.
//!
//! Reading usage may take seconds, so it is a task apart, and [`UsageSeen`] has what it saw last.

mod bypass;
mod forecast;
mod hour;
#[cfg(test)]
mod month;
mod names;
mod refused;
mod replay;
mod seen;
mod sources;
mod spend;
mod spike;
#[cfg(test)]
mod testing;
mod watcher;

pub use replay::{NotReplayed, PastFiring, Replay, replay};
pub use seen::UsageSeen;
pub use sources::UsageSources;
pub use watcher::UsageWatcher;
