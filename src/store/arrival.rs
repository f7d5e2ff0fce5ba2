//! When a request came, and how long it has waited for the store.

use std::time::Duration;

use crate::clock::{Now, Stopwatch};

/// When a request came, and how long it has waited for the store since and before.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    pub now: Now,
    before: Duration,
    stopwatch: Stopwatch,
}

impl Arrival {
    /// That of a request which has not waited yet.
    pub fn whole(now: Now) -> Self {
        Self::after(now, Duration::ZERO)
    }

    /// That of a request which has waited so long before.
    pub fn after(now: Now, before: Duration) -> Self {
        Self { now, before, stopwatch: Stopwatch::start() }
    }

    /// How long it has waited in all.
    pub fn waited(&self) -> Duration {
        self.before + self.stopwatch.elapsed()
    }
}
