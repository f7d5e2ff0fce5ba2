//! The deadline budget of one request: the sum of all its waits for the store must not exceed its deadline, which is the
//! store's unless a person asks.
//!
//! A request may ask the store several times: for its caller, for the candidates of a choice, and for the decision. A
//! stalled store would cost a deadline each time. A request that is held for capacity gets a new budget for each
//! attempt, because it has not waited for the store.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::store::StoreWait;

/// The time that one request has waited for the store, and whether it may ask again. The parts of a request share it,
/// and ask one after another.
#[derive(Debug, Default)]
pub struct DeadlineBudget {
    spent_ns: AtomicU64,
    is_exhausted: AtomicBool,
    /// None: the store's deadline.
    deadline: Option<Duration>,
    /// The most, whatever the deadline is; None: the deadline alone.
    most: Option<Duration>,
}

impl DeadlineBudget {
    /// The budget of a request that waits for the store for so long at most; None: for the store's deadline.
    pub fn at_most(most: Option<Duration>) -> Self {
        Self { most, ..Self::default() }
    }

    /// A new budget, after a wait that was not for the store.
    pub fn renewed(&self) -> Self {
        let is_exhausted = AtomicBool::new(self.is_exhausted());
        let (deadline, most) = (self.deadline, self.most);
        Self { spent_ns: AtomicU64::new(0), is_exhausted, deadline, most }
    }

    /// The budget of what a person asks.
    pub fn patient() -> Self {
        Self { deadline: StoreWait::patient().deadline, ..Self::default() }
    }

    /// The waits so far, and the deadline.
    pub fn wait(&self) -> StoreWait {
        StoreWait { waited: self.spent(), deadline: self.deadline, most: self.most }
    }

    /// Stops further questions: the store did not answer one on which the others depend.
    pub fn exhaust(&self) {
        self.is_exhausted.store(true, Ordering::Relaxed);
    }

    /// Whether the store must not be asked.
    pub fn is_exhausted(&self) -> bool {
        self.is_exhausted.load(Ordering::Relaxed)
    }

    /// The sum of the waits so far.
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
