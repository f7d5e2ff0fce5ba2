//! Monotonic time of this process, in microseconds.
//!
//! What is kept from a store's answer is kept for a length of time, and that is measured here: by the
//! runtime's clock, which never goes back, or by the times that are given with requests.

use tokio::time::Instant;

use crate::clock::Now;
use crate::clock::monotonic_now;

/// Microseconds of a millisecond.
const MS: u64 = 1_000;

/// A point in time; where it begins doesn't matter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

impl Moment {
    /// This moment moved forward by so many milliseconds.
    pub fn after_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms.saturating_mul(MS)))
    }

    /// Whole milliseconds since an earlier moment; none if it lies ahead.
    pub fn ms_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0) / MS
    }

    /// Microseconds since the beginning.
    pub fn as_us(self) -> u64 {
        self.0
    }

    /// The number of the stretch of `length_ms` that it lies in.
    pub fn stretch(self, length_ms: u64) -> u64 {
        self.0 / (length_ms * MS)
    }
}

/// Tells moments.
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    started: Instant,
}

impl Watch {
    /// A watch whose time begins now.
    pub fn start() -> Self {
        Self { started: monotonic_now() }
    }

    /// The moment of a request that comes now.
    pub fn moment(&self, now: Now) -> Moment {
        match now {
            Now::Given(at) => Moment(at.as_ms().saturating_mul(MS)),
            Now::Local(_) => {
                let elapsed = monotonic_now() - self.started;
                Moment(u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX))
            }
        }
    }
}
