//! What an algorithm computes on the state that it keeps. Each algorithm has its own type of state; `state.rs` pairs the two.

use super::Refund;

/// The arithmetic of one algorithm. Times are in milliseconds since the Unix epoch; apart from [`Arithmetic::settle`],
/// functions expect a settled state.
pub trait Arithmetic {
    /// What is kept of one limit under one key.
    type State;

    /// Drops what no longer counts at `now_ms`.
    fn settle(&self, state: &mut Self::State, now_ms: u64);

    /// Whether nothing is spent.
    fn is_unspent(&self, state: &Self::State) -> bool;

    /// Hits in use, rounded up.
    fn used(&self, state: &Self::State, now_ms: u64) -> u64;

    /// When at most `used_max` hits are in use, fewer than now, if no more are spent. None if time alone doesn't bring it there.
    fn falls_to_ms(&self, state: &Self::State, used_max: u64, now_ms: u64) -> Option<u64>;

    /// When time alone has made the whole amount available again, for windows the end of the present one. None if it never
    /// does.
    fn whole_at_ms(&self, state: &Self::State) -> Option<u64>;

    /// Spends hits.
    fn spend(&self, state: &mut Self::State, hits: u64, now_ms: u64);

    /// Gives hits back, never more than are spent.
    fn give_back(&self, state: &mut Self::State, hits: u64, now_ms: u64);

    /// Takes back hits that were spent in vain: only what still counts of them.
    fn take_back(&self, state: &mut Self::State, refund: Refund, now_ms: u64);
}
