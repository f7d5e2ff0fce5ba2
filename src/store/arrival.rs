//! The time at which a request arrived, and how long it has waited for the store.

use std::time::Duration;

use crate::clock::{Now, Stopwatch};

/// The arrival of a request, with its wait for the store before and since.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    pub now: Now,
    before: Duration,
    stopwatch: Stopwatch,
}

impl Arrival {
    /// The arrival of a request that has not waited yet.
    pub fn whole(now: Now) -> Self {
        Self::after(now, Duration::ZERO)
    }

    /// The arrival of a request that has already waited this long.
    pub fn after(now: Now, before: Duration) -> Self {
        Self { now, before, stopwatch: Stopwatch::start() }
    }

    /// Its total wait.
    pub fn waited(&self) -> Duration {
        self.before + self.stopwatch.elapsed()
    }
}
