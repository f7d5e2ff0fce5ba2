//! Maintenance of the store between requests: expires counters of the embedded store, gives unused leases back to
//! Redis, updates the metrics of both, and adjusts limits to their signals.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tokio::{pin, select};

use crate::engine::Engine;
use crate::metrics::Metrics;
use crate::store::Directory;

/// Interval of the maintenance.
const INTERVAL: Duration = Duration::from_millis(200);

/// How often to read the levels of pressure: each level is known everywhere within a second.
const PRESSURE_INTERVAL: Duration = Duration::from_millis(500);

/// How often to follow signals.
const SIGNALS_INTERVAL: Duration = Duration::from_secs(1);

/// Maintains the store.
#[derive(Debug)]
pub struct Upkeep {
    pub engine: Arc<Engine>,
    pub metrics: Arc<Metrics>,
}

impl Upkeep {
    /// Runs until `shutdown`.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut readings = interval(PRESSURE_INTERVAL);
        readings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut signals = interval(SIGNALS_INTERVAL);
        signals.set_missed_tick_behavior(MissedTickBehavior::Delay);
        pin!(shutdown);
        loop {
            select! {
                () = &mut shutdown => return,
                _ = ticks.tick() => {
                    self.update_metrics();
                    self.engine.maintain_store().await;
                }
                _ = readings.tick() => self.engine.read_pressure().await,
                _ = signals.tick() => self.engine.adjust().await,
            }
        }
    }

    fn update_metrics(&self) {
        self.engine.count_store();
        if let Directory::Redis(redis) = self.engine.directory() {
            let callers = &self.metrics.callers;
            callers.known.set(u64::try_from(redis.cached_len()).unwrap_or(u64::MAX));
            callers.subscribed.set(i64::from(redis.is_subscribed()));
            callers.fetches.inc_by(redis.fetches().saturating_sub(callers.fetches.get()));
        }
    }
}
