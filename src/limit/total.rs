//! A limit that never resets: only a count.

use super::Refund;
use super::arithmetic::Arithmetic;

/// At most the amount in total; hits are available again only when they are given back.
pub struct Total;

impl Arithmetic for Total {
    type State = u64;

    fn settle(&self, _count: &mut u64, _now_ms: u64) {}

    fn is_unspent(&self, count: &u64) -> bool {
        *count == 0
    }

    fn used(&self, count: &u64, _now_ms: u64) -> u64 {
        *count
    }

    fn falls_to_ms(&self, _count: &u64, _used_max: u64, _now_ms: u64) -> Option<u64> {
        None
    }

    fn whole_at_ms(&self, _count: &u64) -> Option<u64> {
        None
    }

    fn spend(&self, count: &mut u64, hits: u64, _now_ms: u64) {
        *count += hits;
    }

    fn give_back(&self, count: &mut u64, hits: u64, _now_ms: u64) {
        *count = count.saturating_sub(hits);
    }

    fn take_back(&self, count: &mut u64, refund: Refund, _now_ms: u64) {
        *count = count.saturating_sub(refund.hits);
    }
}
