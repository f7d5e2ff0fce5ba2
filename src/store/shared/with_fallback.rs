//! A store with a fallback: while it is unavailable, `on_outage` of the charges decides, and the hits spent meanwhile
//! are charged in the store afterwards.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::join_all;
use tokio::time::Instant;

use crate::clock::{Now, Timestamp, monotonic_now};
use crate::lock::lock;
use crate::policy::OnOutage;
use crate::store::local_cache::LocalCache;
use crate::store::{Arrival, Batch, Charge, Debt, Fallback, Outcome, Store, StoreError, StoreWait};

/// Debts that are paid at a time: as many as fit into one call.
const DEBTS_AT_ONCE: usize = 64;

/// A store behind its local cache, and the fallback.
#[derive(Debug)]
pub struct WithFallback<S> {
    pub local_cache: LocalCache<S>,
    pub fallback: Fallback,
    steady: Mutex<Steady>,
    /// Whether debts are being paid.
    paying: AtomicBool,
}

/// A clock that is independent of steps of the system's clock, which would free debts or prolong them during an outage.
#[derive(Clone, Copy, Debug)]
struct Steady {
    /// The system's time at that instant.
    at: Timestamp,
    since: Instant,
}

/// The answer to a batch that was sent to the store.
#[derive(Debug)]
pub struct StoreAnswer {
    pub outcome: Outcome,
    /// The error of the store; None if it decided, or was not asked.
    pub error: Option<StoreError>,
}

impl<S: Store> WithFallback<S> {
    /// A store without debts.
    pub fn new(local_cache: LocalCache<S>, fallback: Fallback) -> Self {
        let steady = Steady { at: Timestamp::default(), since: monotonic_now() };
        Self { local_cache, fallback, steady: Mutex::new(steady), paying: AtomicBool::new(false) }
    }

    /// Decides a batch by the fallback, without asking the store.
    pub fn decide_alone(&self, batch: &Batch, now: Now) -> Outcome {
        self.fallback.decide(batch, None, self.time(now))
    }

    /// Stores the state of limits in the answer of the store.
    pub fn learn(&self, batch: &Batch, outcome: &Outcome, now: Now) {
        self.fallback.learn(batch, outcome, self.time(now));
    }

    /// Asks the store to decide, and the fallback if it can't.
    pub async fn ask(&self, batch: &Batch, arrival: Arrival) -> StoreAnswer {
        let now = arrival.now;
        if self.is_paying() && batch.charges.iter().all(Charge::may_come_back_later) {
            // The hits may be part of a debt, so the store could not give them back yet.
            let outcome = self.decide_alone(batch, now);
            return StoreAnswer { outcome, error: None };
        }
        match self.local_cache.ask(batch, arrival).await {
            Ok(outcome) => {
                if batch.charges.iter().any(|charge| charge.on_outage == OnOutage::Local) {
                    self.learn(batch, &outcome, now);
                }
                StoreAnswer { outcome, error: None }
            }
            Err(error) => {
                let outcome = self.fallback.decide(batch, Some(&error), self.time(now));
                StoreAnswer { outcome, error: Some(error) }
            }
        }
    }

    /// Updates the number of sidecars that share the store. Must be called a few times a second.
    pub fn count_sidecars(&self) {
        self.fallback.update_sidecars(self.local_cache.store().sidecars());
    }

    /// Charges the hits of an outage, if the store is available. Must be called a few times a second.
    pub async fn pay_debts(&self, now: Now) {
        if !self.local_cache.store().is_healthy() {
            return;
        }
        if !self.is_paying() {
            return self.set_clock(now);
        }
        self.paying.store(true, Ordering::Release);
        let mut debts = self.fallback.take_debts(self.time(now)).into_iter();
        while debts.len() != 0 {
            join_all(debts.by_ref().take(DEBTS_AT_ONCE).map(|debt| self.pay(debt, now))).await;
        }
        self.fallback.look();
        self.paying.store(false, Ordering::Release);
    }

    /// Whether there are debts, or debts being paid.
    fn is_paying(&self) -> bool {
        self.fallback.owes() || self.paying.load(Ordering::Acquire)
    }

    /// Pays one debt.
    async fn pay(&self, debt: Debt, now: Now) {
        let batch = &debt.batch;
        match self.local_cache.store().charge_after(batch, now, StoreWait::default()).await {
            Ok(outcome) => {
                self.learn(batch, &outcome, now);
                self.fallback.pay(batch);
            }
            // The key holds no counter any more: there is nothing to charge.
            Err(StoreError::Foreign { .. }) => {}
            Err(_) => self.fallback.owe_again(debt),
        }
    }

    /// The time by which this sidecar decides: the system's time when there were last no debts, plus the time since
    /// then.
    fn time(&self, now: Now) -> Timestamp {
        let Now::Local(at) = now else { return now.timestamp() };
        let mut steady = lock(&self.steady);
        if steady.at == Timestamp::default() {
            *steady = Steady { at, since: monotonic_now() };
        }
        steady.at.after(monotonic_now() - steady.since)
    }

    /// Sets the steady clock by the system's clock.
    fn set_clock(&self, now: Now) {
        let at = now.timestamp();
        let steady = Steady { at, since: monotonic_now() };
        *lock(&self.steady) = steady;
    }
}
