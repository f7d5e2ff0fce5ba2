//! Counts by slots of time, so that old ones are forgotten.

use std::iter;
use std::time::Duration;

use super::waiting::SeenRequest;
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

/// The length of a slot.
#[derive(Clone, Copy, Debug)]
pub struct SlotLength {
    ms: u64,
}

impl SlotLength {
    /// The length of slots of which `over` has [`SLOTS`].
    pub fn of(over: Duration) -> Self {
        let over_ms = u64::try_from(over.as_millis()).unwrap_or(u64::MAX);
        Self { ms: (over_ms / SLOTS).max(1) }
    }

    /// The slot of a time.
    pub fn slot(self, at: Timestamp) -> u64 {
        at.as_ms() / self.ms
    }

    /// The last slot that is over for longer than the time of the rule.
    pub fn oldest(self, now: Timestamp) -> u64 {
        self.slot(now).saturating_sub(SLOTS)
    }

    /// Requests that are in the order of time, by slot.
    pub fn split(self, requests: &[SeenRequest]) -> impl Iterator<Item = (u64, &[SeenRequest])> {
        let mut rest = requests;
        iter::from_fn(move || {
            let slot = self.slot(rest.first()?.at);
            let end_ms = slot.saturating_add(1).saturating_mul(self.ms);
            let len = rest.iter().take_while(|request| request.at.as_ms() < end_ms).count();
            let (of_slot, later) = rest.split_at(len.max(1));
            rest = later;
            Some((slot, of_slot))
        })
    }
}
