//! The store of an engine, embedded or Redis, with its maintenance and metrics.

use std::future::pending;
use std::time::Duration;

use tokio::time::timeout;

use crate::clock::Now;
use crate::limit::LimitName;
use crate::metrics::{Counter, Metrics};
use crate::policy::{Key, KeyEntry};
use crate::store::embedded::Memory;
use crate::store::local_cache::LocalCacheCounts;
use crate::store::redis::Redis;
use crate::store::shared::{Shared, StoreAnswer};
use crate::store::signals::{SignalChange, SignalFields};
use crate::store::{Batch, Fallback, Health, Outcome, StoreError, StoreWait};

/// Counters to check for expiry each time, per shard of the embedded store: a million counters are checked in less than
/// a minute.
const SWEPT_AT_ONCE: usize = 16;

/// How long to wait for a write of the embedded store's file.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// One of the stores.
#[derive(Debug)]
pub enum AnyStore {
    /// Counters in this process.
    Memory(Memory),
    /// Counters in a Redis that several processes share.
    Redis(Box<Shared<Redis>>),
}

impl AnyStore {
    /// Counters in a Redis, without a local cache.
    pub fn redis(redis: Redis, fallback: Fallback) -> Self {
        Self::Redis(Box::new(Shared::new(redis, fallback)))
    }

    /// Decides a batch without waiting; None if the store has to be [asked](AnyStore::ask).
    pub fn answer(&self, batch: &Batch, now: Now) -> Option<Outcome> {
        match self {
            Self::Memory(memory) => Some(memory.charge_at(batch, now.timestamp())),
            Self::Redis(shared) => shared.answer(batch, now),
        }
    }

    /// Decides a batch without an [`AnyStore::answer`], for a request that has already waited for the store.
    pub async fn ask(&self, batch: &Batch, now: Now, wait: StoreWait) -> StoreAnswer {
        match self {
            Self::Memory(memory) => {
                StoreAnswer { outcome: memory.charge_at(batch, now.timestamp()), error: None }
            }
            Self::Redis(shared) => shared.ask(batch, now, wait).await,
        }
    }

    /// Decides a batch without a shared store. The embedded store decides as always.
    pub fn decide_alone(&self, batch: &Batch, now: Now) -> Outcome {
        match self {
            Self::Memory(memory) => memory.charge_at(batch, now.timestamp()),
            Self::Redis(shared) => shared.decide_alone(batch, now),
        }
    }

    /// Whether it is available; for a cluster, whether all masters are.
    pub fn is_available(&self) -> bool {
        match self {
            Self::Memory(_) => true,
            Self::Redis(shared) => shared.store().health() == Health::Healthy,
        }
    }

    /// The address; None if it is in this process.
    pub fn address(&self) -> Option<&str> {
        match self {
            Self::Memory(_) => None,
            Self::Redis(shared) => Some(shared.store().address()),
        }
    }

    /// The counts of the local cache.
    pub fn local_cache_counts(&self, now: Now) -> LocalCacheCounts {
        match self {
            Self::Memory(_) => LocalCacheCounts::default(),
            Self::Redis(shared) => shared.local_cache().counts(now),
        }
    }

    /// Returns when somebody waits for a write of the embedded store's file; never without one.
    pub async fn asked_to_write(&self) {
        let durability = match self {
            Self::Memory(memory) => memory.durability(),
            Self::Redis(_) => None,
        };
        match durability {
            Some(durability) => durability.asked().await,
            None => pending().await,
        }
    }

    /// Waits until a crash of this process can't undo what has been charged so far. False: it can, because the file of
    /// counters can't be written.
    pub async fn is_durable(&self) -> bool {
        match self {
            Self::Memory(memory) => match memory.durability() {
                Some(durability) => {
                    timeout(WRITE_TIMEOUT, durability.written()).await.unwrap_or(false)
                }
                // All ends with the process.
                None => true,
            },
            Self::Redis(_) => true,
        }
    }

    /// Removes the counters with one of these entries in their key, and returns their number.
    ///
    /// # Errors
    /// If Redis does not answer as expected; some may be removed.
    pub async fn erase(&self, entries: &[KeyEntry]) -> Result<u64, StoreError> {
        match self {
            Self::Memory(memory) => Ok(memory.erase(entries)),
            Self::Redis(shared) => {
                shared.fallback().erase(entries);
                shared.store().erase(entries).await
            }
        }
    }

    /// Removes the counters under a key.
    ///
    /// # Errors
    /// If Redis does not answer as expected.
    pub async fn remove(&self, key: &Key) -> Result<(), StoreError> {
        match self {
            Self::Memory(memory) => memory.remove(key),
            Self::Redis(shared) => {
                shared.fallback().remove(key);
                shared.store().remove(key).await?;
            }
        }
        Ok(())
    }

    /// Maintains the store between requests. Must be called a few times a second.
    pub async fn maintain(&self, now: Now) {
        match self {
            Self::Memory(memory) => memory.sweep(now.timestamp(), SWEPT_AT_ONCE),
            Self::Redis(shared) => shared.maintain(now).await,
        }
    }

    /// Completes pending work before the shutdown, after the last request.
    pub async fn close(&self, now: Now) {
        if let Self::Redis(shared) = self {
            shared.close(now).await;
        }
    }

    /// All signals, and what is known of the limits that follow them.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn signals(&self) -> Result<SignalFields, StoreError> {
        match self {
            Self::Memory(memory) => Ok(memory.signals()),
            Self::Redis(shared) => shared.store().signals().await,
        }
    }

    /// Changes some of them.
    ///
    /// # Errors
    /// When the store does not answer; the change may have been made, or a part of it.
    pub async fn change_signals(&self, change: &SignalChange) -> Result<(), StoreError> {
        match self {
            Self::Memory(memory) => {
                memory.change_signals(change);
                Ok(())
            }
            Self::Redis(shared) => shared.store().change_signals(change).await,
        }
    }

    /// Updates the metrics of the store's state, and of decisions without it.
    pub fn count(&self, metrics: &Metrics, now: Now) {
        metrics.store_up.set(i64::from(self.is_available()));
        match self {
            Self::Memory(memory) => count_memory(memory, metrics),
            Self::Redis(shared) => count_shared(shared, metrics, now),
        }
    }
}

fn count_memory(memory: &Memory, metrics: &Metrics) {
    metrics.memory.keys.set(u64::try_from(memory.keys()).unwrap_or(u64::MAX));
    catch_up(&metrics.memory.evictions, memory.evicted());
    for (lost, count) in memory.take_lost() {
        let LimitName { domain, label } = &*lost.limit;
        metrics.memory.count_eviction(domain, label, (lost.exhausted, count));
    }
}

fn count_shared(shared: &Shared<Redis>, metrics: &Metrics, now: Now) {
    let store = shared.store();
    metrics.shared.set_health(store.health().name());
    catch_up(&metrics.shared.breaks, store.breaks());
    catch_up(&metrics.shared.reconnects, store.reconnects());
    catch_up(&metrics.shared.paid, shared.fallback().paid());
    metrics.shared.sidecars.set(i64::from(shared.fallback().sidecars()));
    let counts = shared.local_cache().counts(now);
    let metrics = &metrics.local_cache;
    catch_up(&metrics.refused, counts.refused);
    catch_up(&metrics.leased, counts.leased);
    catch_up(&metrics.returned, counts.returned);
    metrics.live.set(u64::try_from(counts.live).unwrap_or(u64::MAX));
}

fn catch_up(counter: &Counter, count: u64) {
    counter.inc_by(count.saturating_sub(counter.get()));
}
