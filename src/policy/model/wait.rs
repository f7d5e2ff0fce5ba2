//! How requests wait for a limit: they are held until there is capacity, instead of refused.

use std::time::Duration;

/// How requests wait for a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// The longest wait.
    pub up_to: Duration,
    /// How many may wait for one counter in one process.
    pub queue: usize,
}
