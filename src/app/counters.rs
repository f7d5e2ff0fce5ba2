//! Writes the counters of the embedded store to their file in `data_dir`, off the data path.

use std::sync::Arc;
use std::time::Duration;

use super::ticks::Ticks;
use crate::clock::Clock;
use crate::engine::{AnyStore, Engine};
use crate::store::CounterFile;

/// Interval of writes, without whoever waits for one: so much is lost at a crash.
const WRITE_INTERVAL: Duration = Duration::from_secs(1);

/// Keeps the counters of an engine in a file.
#[derive(Debug)]
pub struct CounterKeeper {
    pub engine: Arc<Engine>,
    pub clock: Clock,
    pub file: CounterFile,
}

impl CounterKeeper {
    /// Writes changes until `shutdown`, and then the last ones. It needs its own thread, because it waits for the disk.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) {
        let mut ticks = Ticks::new(WRITE_INTERVAL, shutdown);
        let engine = self.engine.clone();
        while ticks.next_or(engine.store().asked_to_write()).await {
            self.write();
        }
        match self.write() {
            true => tracing::info!("counters were stored"),
            false => tracing::warn!("the last counts were not stored"),
        }
    }

    fn write(&mut self) -> bool {
        let AnyStore::Memory(memory) = self.engine.store() else { return true };
        self.file.write(memory, self.clock.now().timestamp())
    }
}
