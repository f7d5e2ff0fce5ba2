//! The count of the current window: the state of fixed windows and calendar periods.

use super::Refund;
use super::arithmetic::Arithmetic;

/// The count of one window or period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowCount {
    /// Its end: the first millisecond after it.
    pub(super) end_ms: u64,
    pub(super) count: u64,
}

/// Consecutive windows or periods.
pub trait Periods {
    /// The end of the one that contains `now_ms`: the first millisecond after it.
    fn end_ms(&self, now_ms: u64) -> u64;

    /// The count of the one that contains `now_ms`, with nothing spent.
    fn unspent(&self, now_ms: u64) -> WindowCount {
        WindowCount { end_ms: self.end_ms(now_ms), count: 0 }
    }
}

impl<P: Periods> Arithmetic for P {
    type State = WindowCount;

    fn settle(&self, state: &mut WindowCount, now_ms: u64) {
        if state.end_ms <= now_ms {
            state.count = 0;
        }
    }

    fn is_unspent(&self, state: &WindowCount) -> bool {
        state.count == 0
    }

    fn used(&self, state: &WindowCount, _now_ms: u64) -> u64 {
        state.count
    }

    fn falls_to_ms(&self, state: &WindowCount, _used_max: u64, _now_ms: u64) -> Option<u64> {
        Some(state.end_ms)
    }

    fn whole_at_ms(&self, state: &WindowCount) -> Option<u64> {
        Some(state.end_ms)
    }

    fn spend(&self, state: &mut WindowCount, hits: u64, _now_ms: u64) {
        state.count += hits;
    }

    fn give_back(&self, state: &mut WindowCount, hits: u64, _now_ms: u64) {
        state.count = state.count.saturating_sub(hits);
    }

    fn take_back(&self, state: &mut WindowCount, refund: Refund, _now_ms: u64) {
        if state.end_ms == refund.until.as_ms() {
            state.count = state.count.saturating_sub(refund.hits);
        }
    }
}
