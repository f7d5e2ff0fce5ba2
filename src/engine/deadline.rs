//! The deadline budget of one request: all its waits for the store together keep the store's deadline.
//!
//! A request may ask more than once: for its caller, for the candidates of a choice, for the decision. A store
//! that stalls would cost a deadline each time. A request that is held for capacity begins anew whenever it
//! asks again: it was not the store that it waited for.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// How long one request has waited for the store, and whether it may ask it again. Shared by the parts of a request,
/// which ask one after another.
#[derive(Debug, Default)]
pub struct DeadlineBudget {
    spent_ns: AtomicU64,
    is_exhausted: AtomicBool,
}

impl DeadlineBudget {
    /// For asking anew, after a wait that was not for the store.
    pub fn renewed(&self) -> Self {
        Self { spent_ns: AtomicU64::new(0), is_exhausted: AtomicBool::new(self.is_exhausted()) }
    }

    /// Has the request not ask any more: the store did not tell what the question depends on.
    pub fn exhaust(&self) {
        self.is_exhausted.store(true, Ordering::Relaxed);
    }

    /// Whether the store is not to be asked.
    pub fn is_exhausted(&self) -> bool {
        self.is_exhausted.load(Ordering::Relaxed)
    }

    /// The waits so far.
    pub fn spent(&self) -> Duration {
        Duration::from_nanos(self.spent_ns.load(Ordering::Relaxed))
    }

    /// Adds a wait.
    pub fn spend(&self, waited: Duration) {
        let ns = u64::try_from(waited.as_nanos()).unwrap_or(u64::MAX);
        self.spent_ns.fetch_add(ns, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_add_up() {
        let budget = DeadlineBudget::default();
        budget.spend(Duration::from_millis(2));
        budget.spend(Duration::from_micros(3));
        assert_eq!(budget.spent(), Duration::from_micros(2_003));
    }
}
