//! Carries on gifts that were left pending, by this process or another one.

use std::sync::Arc;
use std::time::Duration;

use super::ticks::Ticks;
use crate::engine::Engine;

/// How often to look.
const INTERVAL: Duration = Duration::from_secs(5);

/// Looks after gifts.
#[derive(Debug)]
pub struct PendingGifts {
    pub engine: Arc<Engine>,
}

impl PendingGifts {
    /// Looks after them until `shutdown`.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let mut ticks = Ticks::new(INTERVAL, shutdown);
        while ticks.next().await {
            ticks.during(self.look()).await;
        }
    }

    async fn look(&self) {
        match self.engine.resume_gifts().await {
            Ok(0) => {}
            Ok(gifts) => tracing::info!(gifts, "pending gifts were carried on to their end"),
            // The connection tells of it, and they are looked at again.
            Err(error) => tracing::debug!(%error, "reading pending gifts failed"),
        }
    }
}
