//! The arithmetic of an algorithm on its state. Each algorithm has its own type of state; `state.rs` pairs the two.

use super::Refund;

/// The arithmetic of one algorithm. Times are in milliseconds since the Unix epoch. Except for [`Arithmetic::settle`],
/// functions expect a settled state.
pub trait Arithmetic {
    /// The state of one limit under one key.
    type State;

    /// Drops the parts that no longer count at `now_ms`.
    fn settle(&self, state: &mut Self::State, now_ms: u64);

    /// Whether nothing is spent.
    fn is_unspent(&self, state: &Self::State) -> bool;

    /// Hits in use, rounded up.
    fn used(&self, state: &Self::State, now_ms: u64) -> u64;

    /// The time at which at most `used_max` hits are in use, fewer than now, if no more are spent. None if time alone
    /// doesn't lead to that.
    fn falls_to_ms(&self, state: &Self::State, used_max: u64, now_ms: u64) -> Option<u64>;

    /// The time at which the whole amount is available again; for windows, the end of the current one. None if it never
    /// is.
    fn whole_at_ms(&self, state: &Self::State) -> Option<u64>;

    /// Spends hits.
    fn spend(&self, state: &mut Self::State, hits: u64, now_ms: u64);

    /// Gives hits back, at most those that are spent.
    fn give_back(&self, state: &mut Self::State, hits: u64, now_ms: u64);

    /// Gives hits back late: only those that still count.
    fn take_back(&self, state: &mut Self::State, refund: Refund, now_ms: u64);
}
