//! The store of an engine: one of those there are, chosen when the process starts.

use crate::metrics::Counter;
use crate::store::memory::Memory;
use crate::store::near::Near;
use crate::store::redis::Redis;

use super::Engine;

/// One of the stores.
#[derive(Debug)]
pub enum AnyStore {
    /// Counters in this process.
    Memory(Memory),
    /// Counters in a Redis, and what is known of them here.
    Redis(Box<Near<Redis>>),
}

impl AnyStore {
    /// Counters in a Redis of which nothing is known here yet.
    pub fn redis(redis: Redis) -> Self {
        Self::Redis(Box::new(Near::new(redis)))
    }
}

impl Engine {
    /// Gives back what is left of leases that have ended. To be called a few times a second.
    pub async fn tend_leases(&self) {
        if let AnyStore::Redis(near) = self.store() {
            near.tend(self.settings.clock.now()).await;
        }
    }

    /// Gives back what is left of all leases, because no more requests will come.
    pub async fn close_leases(&self) {
        if let AnyStore::Redis(near) = self.store() {
            near.close(self.settings.clock.now()).await;
        }
    }

    /// Counts what was decided without asking the store.
    pub fn count_near(&self) {
        if let AnyStore::Redis(near) = self.store() {
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
