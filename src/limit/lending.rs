//! Leased hits of a sliding window: taken ahead, to be spent without asking the store.
//!
//! They count in the slot after the present one, so hits that are spent in the present one count for longer than the
//! window. Hits that are not spent come back out of that slot.

use super::{Algorithm, Limit, State};
use crate::clock::Timestamp;

/// A request takes at most one hit in so many of what remains ahead.
const LENT_SHARE: u64 = 8;

impl Limit {
    /// The most hits that one request may take ahead of a settled state: a part of what remains, so that a
    /// lease gets smaller the nearer the limit is. Only sliding windows that have spent something lend any.
    pub fn lends(&self, state: &State, now: Timestamp) -> u64 {
        match state {
            State::Sliding(_) => self.remaining(state, now) / LENT_SHARE,
            _ => 0,
        }
    }

    /// Takes hits ahead on a settled state, at most what [`Limit::lends`] says. They count in the slot after
    /// the present one, so hits that are spent until the end of that count long enough.
    pub fn charge_ahead(&self, state: &mut State, hits: u64, now: Timestamp) {
        let Algorithm::Sliding(sliding) = &self.algorithm else {
            return;
        };
        if let (State::Sliding(slots), 1..) = (state, hits) {
            slots.add(sliding.slot_last_ms(now.as_ms()) + sliding.slot_ms(), hits);
        }
    }
}
