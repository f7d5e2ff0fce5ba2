//! Does what a store needs between requests: expires counters of the embedded store, gives unused leases back
//! to Redis, and updates the metrics of either.

use std::sync::Arc;
use std::time::Duration;

use tokio::pin;
use tokio::select;
use tokio::time::MissedTickBehavior;
use tokio::time::interval;

use crate::engine::AnyStore;
use crate::engine::Engine;
use crate::limit::LimitName;
use crate::metrics::Metrics;
use crate::store::Directory;
use crate::store::Health;

/// How often to look.
const INTERVAL: Duration = Duration::from_millis(200);

/// How often to read the levels of pressure: a level is known everywhere within a second.
const PRESSURE_INTERVAL: Duration = Duration::from_millis(500);

/// Slots of each shard to look at each time: a million counters are passed in less than a minute.
const PLACES: usize = 16;

/// Looks after the store.
#[derive(Debug)]
pub struct Upkeep {
    pub engine: Arc<Engine>,
    pub metrics: Arc<Metrics>,
}

impl Upkeep {
    /// Looks after it until `shutdown`.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut readings = interval(PRESSURE_INTERVAL);
        readings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        pin!(shutdown);
        loop {
            select! {
                () = &mut shutdown => return,
                _ = ticks.tick() => {
                    self.look();
                    self.engine.tend_store().await;
                }
                _ = readings.tick() => self.engine.read_pressure().await,
            }
        }
    }

    fn look(&self) {
        self.look_at_store();
        if let Directory::Redis(redis) = self.engine.directory() {
            let callers = &self.metrics.callers;
            callers.known.set(u64::try_from(redis.cached_len()).unwrap_or(u64::MAX));
            callers.subscribed.set(i64::from(redis.is_subscribed()));
            callers.fetches.inc_by(redis.fetches().saturating_sub(callers.fetches.get()));
        }
    }

    fn look_at_store(&self) {
        match self.engine.store() {
            AnyStore::Memory(memory) => {
                memory.sweep(self.engine.now(), PLACES);
                self.metrics.memory.keys.set(u64::try_from(memory.keys()).unwrap_or(u64::MAX));
                let told = self.metrics.memory.evictions.get();
                self.metrics.memory.evictions.inc_by(memory.evicted().saturating_sub(told));
                for (lost, count) in memory.take_lost() {
                    let LimitName { domain, label } = &*lost.limit;
                    self.metrics.memory.lose(domain, label, (lost.exhausted, count));
                }
                self.metrics.store_up.set(1);
            }
            AnyStore::Redis(shared) => {
                let healthy = shared.local_cache.store().health() == Health::Healthy;
                self.metrics.store_up.set(i64::from(healthy));
                self.engine.count_shared();
            }
        }
    }
}
