//! A store with a fallback: what its charges say of outages (`on_outage`) answers while it is unavailable, and what was
//! spent meanwhile is charged in the store afterwards.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;

use crate::clock::{Now, Timestamp, monotonic_now};
use crate::lock::lock;
use crate::policy::OnOutage;
use crate::store::local_cache::LocalCache;
use crate::store::{Arrival, Batch, Charge, Debt, Fallback, Outcome, Store, StoreError};

/// Debts that are paid at a time: as many as share a call.
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

/// A clock that steps of the system's clock don't change: during an outage they would free what is owed, or hold it.
#[derive(Clone, Copy, Debug)]
struct Steady {
    /// What the system's clock said then.
    at: Timestamp,
    since: Instant,
}

/// The answer to a batch that the store was asked for.
#[derive(Debug)]
pub struct StoreAnswer {
    pub outcome: Outcome,
    /// Why the store did not decide; None if it did, or was not asked.
    pub error: Option<StoreError>,
}

impl<S: Store> WithFallback<S> {
    /// A store to which nothing is owed.
    pub fn new(local_cache: LocalCache<S>, fallback: Fallback) -> Self {
        let steady = Steady { at: Timestamp::default(), since: monotonic_now() };
        Self { local_cache, fallback, steady: Mutex::new(steady), paying: AtomicBool::new(false) }
    }

    /// Decides a batch by the fallback alone, without asking the store.
    pub fn decide_alone(&self, batch: &Batch, now: Now) -> Outcome {
        self.fallback.decide(batch, None, self.time(now))
    }

    /// Learns from the store's answer how limits stand.
    pub fn learn(&self, batch: &Batch, outcome: &Outcome, now: Now) {
        self.fallback.learn(batch, outcome, self.time(now));
    }

    /// Has the store decide, or the fallback if it can't.
    pub async fn ask(&self, batch: &Batch, arrival: Arrival) -> StoreAnswer {
        let now = arrival.now;
        if self.is_paying() && batch.charges.iter().all(Charge::may_come_back_later) {
            // The hits may be a part of what is owed, so the store could not give them back yet.
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

    /// Learns how many sidecars share the store. To be called a few times a second.
    pub fn count_sidecars(&self) {
        self.fallback.hear(self.local_cache.store().sidecars());
    }

    /// Charges what was spent during an outage, if the store is available. To be called a few times a second.
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

    /// Whether something is owed or being paid.
    fn is_paying(&self) -> bool {
        self.fallback.owes() || self.paying.load(Ordering::Acquire)
    }

    /// Pays one debt.
    async fn pay(&self, debt: Debt, now: Now) {
        let batch = &debt.batch;
        match self.local_cache.store().charge_after(batch, now, Duration::ZERO).await {
            Ok(outcome) => {
                self.learn(batch, &outcome, now);
                self.fallback.pay(batch);
            }
            // The key is no counter any more: there is nothing to charge.
            Err(StoreError::Foreign { .. }) => {}
            Err(_) => self.fallback.owe_again(debt),
        }
    }

    /// The time by which this sidecar decides: the system's clock's as of when nothing was owed last, and what has passed
    /// since.
    fn time(&self, now: Now) -> Timestamp {
        let Now::Local(at) = now else { return now.timestamp() };
        let mut steady = lock(&self.steady);
        if steady.at == Timestamp::default() {
            *steady = Steady { at, since: monotonic_now() };
        }
        steady.at.after(monotonic_now() - steady.since)
    }

    /// Sets the steady clock by the system's.
    fn set_clock(&self, now: Now) {
        let at = now.timestamp();
        let steady = Steady { at, since: monotonic_now() };
        *lock(&self.steady) = steady;
    }
}
