//! Monotonic time of this process, in microseconds.
//!
//! Cached data is valid for a length of time. It is measured by the runtime's clock, which never goes back, or by the
//! times that requests bring.

use tokio::time::Instant;

use crate::clock::{Now, monotonic_now};

/// Microseconds of a millisecond.
const MS: u64 = 1_000;

/// Microseconds since an arbitrary origin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct MonotonicTime(u64);

impl MonotonicTime {
    /// The time `ms` milliseconds later.
    pub fn after_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms.saturating_mul(MS)))
    }

    /// Whole milliseconds since an earlier time; 0 if that lies ahead.
    pub fn ms_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0) / MS
    }

    /// Microseconds since the origin.
    pub fn as_us(self) -> u64 {
        self.0
    }

    /// The number of the interval of `length_ms` that contains it.
    pub fn interval(self, length_ms: u64) -> u64 {
        self.0 / (length_ms * MS)
    }
}

/// The source of monotonic times.
#[derive(Clone, Copy, Debug)]
pub struct MonotonicClock {
    started: Instant,
}

impl MonotonicClock {
    /// A clock whose origin is now.
    pub fn start() -> Self {
        Self { started: monotonic_now() }
    }

    /// The time of a request that arrives now.
    pub fn time(&self, now: Now) -> MonotonicTime {
        match now {
            Now::Given(at) => MonotonicTime(at.as_ms().saturating_mul(MS)),
            Now::Local(_) => {
                let elapsed = monotonic_now() - self.started;
                MonotonicTime(u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX))
            }
        }
    }
}
