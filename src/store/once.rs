//! Idempotency tokens: names of charges that are made once, however often they arrive.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

/// Names a charge among those of one sidecar on one counter. The record of the counter remembers the greatest number that
/// it has seen of each sidecar, for [`ONCE_MS`]; a charge with that or a lower one has been made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Once {
    /// Which sidecar.
    pub by: u64,
    /// Greater than those before it on the same counter, and no other is under way there.
    pub number: u64,
}

/// How long a record remembers the charges that are made once, in milliseconds: far longer than anybody sends one again.
pub const ONCE_MS: u64 = 3_600_000;

/// The numbers of one who makes such charges.
#[derive(Debug)]
pub struct Numbers {
    by: u64,
    last: AtomicU64,
}

impl Default for Numbers {
    /// Those of somebody new.
    fn default() -> Self {
        let mut by = [0; 8];
        // Without chance its name is that of every other without, and some of their charges are taken for made.
        let _ = getrandom::fill(&mut by);
        Self { by: u64::from_le_bytes(by), last: AtomicU64::new(0) }
    }
}

impl Numbers {
    /// The next.
    pub fn next(&self) -> Once {
        Once { by: self.by, number: 1 + self.last.fetch_add(1, Ordering::Relaxed) }
    }
}
