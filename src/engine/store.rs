//! The store of an engine: one of those there are, chosen when the process starts.

use std::time::Duration;

use futures_util::future::join_all;

use crate::clock::Now;
use crate::metrics::Counter;
use crate::store::Batch;
use crate::store::Fallback;
use crate::store::StoreError;
use crate::store::memory::Memory;
use crate::store::near::Near;
use crate::store::near::SharedStore;
use crate::store::redis::Redis;

use super::Engine;

/// One of the stores.
#[derive(Debug)]
pub enum AnyStore {
    /// Counters in this process.
    Memory(Memory),
    /// Counters in a Redis that other processes share.
    Redis(Box<Shared>),
}

/// Counters in a Redis, and what is done here without it.
#[derive(Debug)]
pub struct Shared {
    /// What is known of them here.
    pub near: Near<Redis>,
    /// What decides while Redis is out.
    pub fallback: Fallback,
}

/// Debts that are brought to the store at a time: as many as share a call.
const DEBTS_AT_ONCE: usize = 64;

impl AnyStore {
    /// Counters in a Redis of which nothing is known here yet.
    pub fn redis(redis: Redis, fallback: Fallback) -> Self {
        Self::Redis(Box::new(Shared { near: Near::new(redis), fallback }))
    }
}

impl Shared {
    /// Charges what was spent while Redis was out, if it is back.
    async fn pay_debts(&self, now: Now) {
        if !self.near.store().breaker().is_healthy() || !self.fallback.owes() {
            return;
        }
        for debts in self.fallback.take_debts(now.timestamp()).chunks(DEBTS_AT_ONCE) {
            join_all(debts.iter().map(|batch| self.pay(batch, now))).await;
        }
    }

    /// Pays one debt. Whether a call that failed was made is not known: it is made again, and then charged twice
    /// rather than not at all.
    async fn pay(&self, batch: &Batch, now: Now) {
        match self.near.store().charge_after(batch, now, Duration::ZERO).await {
            Ok(_) => self.fallback.pay(batch),
            // Something else stands where the counter was: there is nothing to charge.
            Err(StoreError::Foreign { .. }) => {}
            Err(_) => self.fallback.owe_again(batch, now.timestamp()),
        }
    }
}

impl Engine {
    /// Gives back what is left of leases that have ended. To be called a few times a second.
    pub async fn tend_leases(&self) {
        if let AnyStore::Redis(shared) = self.store() {
            shared.near.tend(self.settings.clock.now()).await;
        }
    }

    /// Gives back what is left of all leases, because no more requests will come.
    pub async fn close_leases(&self) {
        if let AnyStore::Redis(shared) = self.store() {
            shared.near.close(self.settings.clock.now()).await;
        }
    }

    /// Charges what was spent while the store was out, once it is back. To be called a few times a second.
    pub async fn pay_debts(&self) {
        if let AnyStore::Redis(shared) = self.store() {
            shared.pay_debts(self.settings.clock.now()).await;
            shared.fallback.hear(shared.near.store().sidecars());
        }
    }

    /// Takes down how the store is, and what was decided without it.
    pub fn count_shared(&self) {
        if let AnyStore::Redis(shared) = self.store() {
            let Shared { near, fallback } = &**shared;
            let (store, metrics) = (near.store(), &self.settings.metrics.shared);
            metrics.set_health(store.breaker().health().name());
            catch_up(&metrics.breaks, store.breaker().breaks());
            catch_up(&metrics.reconnects, store.reconnects());
            catch_up(&metrics.paid, fallback.paid());
            metrics.sidecars.set(i64::from(fallback.sidecars()));
            let counts = near.counts(self.settings.clock.now());
            let metrics = &self.settings.metrics.near;
            catch_up(&metrics.refused, counts.refused);
            catch_up(&metrics.leased, counts.leased);
            catch_up(&metrics.returned, counts.returned);
            metrics.live.set(u64::try_from(counts.live).unwrap_or(u64::MAX));
        }
    }
}

fn catch_up(counter: &Counter, count: u64) {
    counter.inc_by(count.saturating_sub(counter.get()));
}
