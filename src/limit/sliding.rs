//! The sliding window: at most the amount passes in any interval of the window's length.
//!
//! The state is a quantised log. Time is divided into slots; a slot with hits keeps their count and its last
//! millisecond. It counts in full until its last instant has left the window, so hits in any interval may be
//! over-counted, never under-counted, and capacity comes back at most one slot late. If the limit is so small that its
//! log stays short, slots have a millisecond: an exact log.
//!
//! Times are whole milliseconds: one hit may be at the start and the next one at the end of a millisecond, so "any
//! interval" is exact to a millisecond. Counting that millisecond would fix this, but every answer of a small limit per
//! minute would report 61 seconds; finer times would change all stored counters.

use smallvec::SmallVec;

use super::Refund;
use super::arithmetic::Arithmetic;

/// Slots in a window.
const SLOTS: u64 = 60;

/// Slots in a window of a second or less, which changes too fast to justify the memory of more.
const SLOTS_SHORT: u64 = 20;

/// The longest window that has so few, in milliseconds.
const WINDOW_SHORT_MS: u64 = 1_000;

/// A limit of at most this amount keeps an exact log: it can't have more entries than hits.
const EXACT_AMOUNT_MAX: u64 = SLOTS + 1;

/// The shape of a sliding window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sliding {
    window_ms: u64,
    slot_ms: u64,
}

impl Sliding {
    /// A window of `window_ms` (at least 1) for a limit of `amount`.
    pub fn new(window_ms: u64, amount: u64) -> Self {
        let exact = Self { window_ms, slot_ms: 1 };
        let slot_ms = if amount <= EXACT_AMOUNT_MAX { 1 } else { exact.widest_slot_ms() };
        Self { slot_ms, ..exact }
    }

    /// The slots of a window of this length for a large amount.
    fn widest_slot_ms(&self) -> u64 {
        let slots = if self.window_ms <= WINDOW_SHORT_MS { SLOTS_SHORT } else { SLOTS };
        self.window_ms.div_ceil(slots)
    }

    /// The window's length in milliseconds.
    pub fn window_ms(&self) -> u64 {
        self.window_ms
    }

    /// Maximum delay until capacity comes back, in milliseconds.
    pub fn slot_ms(&self) -> u64 {
        self.slot_ms
    }

    /// The last millisecond of the slot that contains `now_ms`. No interval of the window's length contains both a hit
    /// at this time and one a window's length later, so that is when the slot's hits come back.
    pub fn slot_last_ms(&self, now_ms: u64) -> u64 {
        (now_ms / self.slot_ms + 1) * self.slot_ms - 1
    }
}

impl Arithmetic for Sliding {
    type State = Slots;

    /// Drops the slots that have left the window.
    fn settle(&self, slots: &mut Slots, now_ms: u64) {
        let lives = |&(last_ms, _): &(u64, u64)| now_ms < last_ms + self.window_ms;
        let left = slots.log.iter().position(lives).unwrap_or(slots.log.len());
        if left != 0 {
            slots.total -= slots.log.drain(..left).map(|(_, count)| count).sum::<u64>();
        }
    }

    fn is_unspent(&self, slots: &Slots) -> bool {
        slots.total == 0
    }

    fn used(&self, slots: &Slots, _now_ms: u64) -> u64 {
        slots.total
    }

    /// The time at which the oldest slots with the excess have left the window.
    fn falls_to_ms(&self, slots: &Slots, used_max: u64, _now_ms: u64) -> Option<u64> {
        let excess = slots.total.saturating_sub(used_max);
        let mut freed = 0;
        for &(last_ms, count) in &slots.log {
            freed += count;
            if excess <= freed {
                return Some(last_ms + self.window_ms);
            }
        }
        self.whole_at_ms(slots)
    }

    fn whole_at_ms(&self, slots: &Slots) -> Option<u64> {
        Some(slots.log.last().map_or(0, |&(last_ms, _)| last_ms + self.window_ms))
    }

    fn spend(&self, slots: &mut Slots, hits: u64, now_ms: u64) {
        slots.add(self.slot_last_ms(now_ms), hits);
    }

    fn give_back(&self, slots: &mut Slots, hits: u64, _now_ms: u64) {
        slots.give_back(hits);
    }

    fn take_back(&self, slots: &mut Slots, refund: Refund, now_ms: u64) {
        let until_ms = refund.until.as_ms();
        let last_ms = until_ms.saturating_sub(self.window_ms);
        // Afterwards the hits of another slot are those of others.
        let last_ms = match now_ms < until_ms {
            true => slots.slot_of(last_ms, self.widest_slot_ms()),
            false => last_ms,
        };
        slots.take_back(last_ms, refund.hits);
    }
}

/// The slots of a window with hits, oldest first, each with its last millisecond and its count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slots {
    pub(super) total: u64,
    /// A rarely used counter has one, which needs no allocation.
    pub(super) log: SmallVec<[(u64, u64); 1]>,
}

impl Slots {
    /// The number of slots.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.log.len()
    }

    /// Adds hits to the slot whose last millisecond is `last_ms`. If there is a later slot (the clock went back, or the
    /// slots were wider), they are added to that one and count longer, never shorter.
    pub fn add(&mut self, last_ms: u64, hits: u64) {
        self.total += hits;
        match self.log.last_mut() {
            Some((newest_ms, count)) if last_ms <= *newest_ms => *count += hits,
            _ => self.log.push((last_ms, hits)),
        }
    }

    /// The last millisecond of the slot that has the hits which were added to the one that ends at `last_ms`: another one, of at
    /// most `widest_ms`, if slots were wider because the amount was larger.
    fn slot_of(&self, last_ms: u64, widest_ms: u64) -> u64 {
        let later = self.log.partition_point(|(known_ms, _)| *known_ms < last_ms);
        let later = self.log.get(later).map(|(known_ms, _)| *known_ms);
        later.filter(|known_ms| known_ms - last_ms < widest_ms).unwrap_or(last_ms)
    }

    /// Removes unspent hits that were added to the slot whose last millisecond is `last_ms`: out of that slot, then out of the
    /// ones before it. So the slot keeps the spent hits, and their capacity comes back when it leaves the window.
    pub fn take_back(&mut self, last_ms: u64, hits: u64) {
        let mut left = hits;
        for (_, count) in self.log.iter_mut().rev().filter(|(known_ms, _)| *known_ms <= last_ms) {
            let taken = left.min(*count);
            *count -= taken;
            self.total -= taken;
            left -= taken;
        }
        self.log.retain(|(_, count)| 0 < *count);
    }

    /// Removes hits, the oldest first: the younger ones stay and count longest, so that no interval exceeds the limit.
    pub fn give_back(&mut self, hits: u64) {
        let mut left = hits.min(self.total);
        self.total -= left;
        let mut emptied = 0;
        for (_, count) in &mut self.log {
            if left < *count {
                *count -= left;
                break;
            }
            left -= *count;
            emptied += 1;
        }
        self.log.drain(..emptied);
    }
}
