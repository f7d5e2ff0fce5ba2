//! Counts by slots of time, so that old ones are forgotten.

use std::time::Duration;

use crate::clock::Timestamp;

/// Slots of the time of a rule.
pub const SLOTS: u64 = 10;

/// Counts of one subject: the number of a slot and its count, oldest first.
#[derive(Debug, Default)]
pub struct Slots(Vec<(u64, u64)>);

impl Slots {
    /// Adds a count.
    pub fn add(&mut self, slot: u64, count: u64) {
        match self.0.last_mut() {
            // Records of several threads are not in order.
            Some((last, known)) if slot <= *last => *known += count,
            _ => self.0.push((slot, count)),
        }
        // At most one slot more than the time has.
        let more = self.0.len().saturating_sub(11);
        self.0.drain(..more);
    }

    /// Forgets counts up to this slot; false if none are left.
    pub fn forget(&mut self, oldest: u64) -> bool {
        self.0.retain(|(slot, _)| oldest < *slot);
        !self.0.is_empty()
    }

    /// The sum of all counts.
    pub fn sum(&self) -> u64 {
        self.0.iter().map(|(_, count)| count).sum()
    }

    /// The last slot with a count; 0 if there is none.
    pub fn last(&self) -> u64 {
        self.0.last().map_or(0, |(slot, _)| *slot)
    }
}

/// The slot of a time, of which `over` has [`SLOTS`].
pub fn slot(over: Duration, at: Timestamp) -> u64 {
    let over_ms = u64::try_from(over.as_millis()).unwrap_or(u64::MAX);
    at.as_ms() / (over_ms / SLOTS).max(1)
}
