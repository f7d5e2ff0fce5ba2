//! Detects hot keys: those with so many requests that a lease may pay off.
//!
//! A fixed number of cells counts requests by a hash of the key, so that a million cold keys cost no memory. Keys that
//! share a cell can make each other look hot; then a lease is requested without need, and no more.

use std::sync::atomic::{AtomicU64, Ordering};

use super::monotonic::MonotonicTime;

/// Number of cells: many times the number of keys that can be hot at once in one sidecar.
const CELLS: usize = 4_096;

/// Requests within one interval that make a key hot.
pub const HOT_REQUESTS: u64 = 8;

/// The length of an interval in milliseconds.
const STRETCH_MS: u64 = 250;

/// Bits of a cell for the count; the bits above have the interval.
const COUNT_BITS: u32 = 24;

/// Counts requests by key.
#[derive(Debug)]
pub struct Heat {
    cells: Box<[AtomicU64]>,
}

impl Heat {
    /// One that has seen nothing.
    pub fn new() -> Self {
        Self { cells: (0..CELLS).map(|_| AtomicU64::new(0)).collect() }
    }

    /// Counts a request for the key with this hash, and returns whether it is hot.
    pub fn touch(&self, hash: u64, now: MonotonicTime) -> bool {
        let place = usize::try_from(hash % CELLS as u64).expect("less than CELLS");
        let stretch = now.interval(STRETCH_MS) << COUNT_BITS;
        let cell = &self.cells[place];
        let known = cell.load(Ordering::Relaxed);
        let count = if known >> COUNT_BITS == stretch >> COUNT_BITS { known - stretch } else { 0 };
        let count = (count + 1).min((1 << COUNT_BITS) - 1);
        // A request that is overwritten by a concurrent one is not counted: a hot key has enough of them.
        cell.store(stretch | count, Ordering::Relaxed);
        HOT_REQUESTS <= count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_hot_that_is_asked_for_often_in_a_short_time() {
        let heat = Heat::new();
        let touch = |ms| heat.touch(7, MonotonicTime::default().after_ms(ms));
        assert!((0..HOT_REQUESTS - 1).all(|ms| !touch(ms)));
        assert!(touch(STRETCH_MS - 1));
        assert!((0..HOT_REQUESTS - 1).all(|_| !touch(STRETCH_MS)), "a new stretch begins anew");
        assert!(touch(STRETCH_MS));
        assert!(!heat.touch(8, MonotonicTime::default().after_ms(STRETCH_MS)), "it is another key");
    }
}
