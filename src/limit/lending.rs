//! Leased hits of a sliding window: taken ahead, and spent without a call to the store.
//!
//! They count in the slot after the current one, so hits that are spent in the current one count for longer than the
//! window. Unspent hits are given back out of that slot.

use super::{Algorithm, Limit, State};
use crate::clock::Timestamp;

/// A request takes at most this fraction of the remaining hits ahead.
const LENT_SHARE: u64 = 8;

impl Limit {
    /// Maximum number of hits that one request may take ahead of a settled state: a part of the remaining hits, so that
    /// leases become smaller as the limit fills up. Only sliding windows in use can lend.
    pub fn lends(&self, state: &State, now: Timestamp) -> u64 {
        match state {
            State::Sliding(_) => self.remaining(state, now) / LENT_SHARE,
            _ => 0,
        }
    }

    /// Takes hits ahead on a settled state, at most [`Limit::lends`]. They count in the slot after the current one, so
    /// hits that are spent until the end of the current one count long enough.
    pub fn charge_ahead(&self, state: &mut State, hits: u64, now: Timestamp) {
        let Algorithm::Sliding(sliding) = &self.algorithm else {
            return;
        };
        if let (State::Sliding(slots), 1..) = (state, hits) {
            slots.add(sliding.slot_last_ms(now.as_ms()) + sliding.slot_ms(), hits);
        }
    }
}
