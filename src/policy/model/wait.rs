//! The settings of a `wait`: requests are held until there is capacity, instead of refused.

use std::time::Duration;

/// The settings of a limit's `wait`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// The maximum wait.
    pub up_to: Duration,
    /// Maximum number of waiting requests for one counter in one process.
    pub queue: usize,
}
