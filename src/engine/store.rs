//! The store of an engine, embedded or Redis, with its upkeep and its metrics.

use crate::clock::Now;
use crate::metrics::Counter;
use crate::metrics::Metrics;
use crate::store::Fallback;
use crate::store::memory::Memory;
use crate::store::redis::Redis;
use crate::store::shared::Shared;

/// One of the stores.
#[derive(Debug)]
pub enum AnyStore {
    /// Counters in this process.
    Memory(Memory),
    /// Counters in a Redis that other processes share.
    Redis(Box<Shared<Redis>>),
}

impl AnyStore {
    /// Counters in a Redis of which nothing is known here yet.
    pub fn redis(redis: Redis, fallback: Fallback) -> Self {
        Self::Redis(Box::new(Shared::new(redis, fallback)))
    }

    /// Does what the store needs between requests. To be called a few times a second.
    pub async fn tend(&self, now: Now) {
        if let Self::Redis(shared) = self {
            shared.tend(now).await;
        }
    }

    /// Does what the store needs before the end, because no more requests will come.
    pub async fn close(&self, now: Now) {
        if let Self::Redis(shared) = self {
            shared.close(now).await;
        }
    }

    /// Counts how the store is, and what was decided without it.
    pub fn count(&self, metrics: &Metrics, now: Now) {
        if let Self::Redis(shared) = self {
            let Shared { local_cache, fallback, .. } = &**shared;
            let store = local_cache.store();
            metrics.shared.set_health(store.health().name());
            catch_up(&metrics.shared.breaks, store.breaks());
            catch_up(&metrics.shared.reconnects, store.reconnects());
            catch_up(&metrics.shared.paid, fallback.paid());
            metrics.shared.sidecars.set(i64::from(fallback.sidecars()));
            let counts = local_cache.counts(now);
            let metrics = &metrics.local_cache;
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
