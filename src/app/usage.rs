//! Takes the records of decisions out of the sink and sums them.

use std::sync::Arc;

use crate::clock::Clock;
use crate::engine::Sink;
use crate::metrics::Metrics;
use crate::usage::UsageMemory;

/// Sums what the sink takes.
#[derive(Debug)]
pub struct UsageConsumer {
    pub sink: Arc<Sink>,
    pub usage: Arc<UsageMemory>,
    clock: Clock,
}

impl UsageConsumer {
    /// Counts from now on.
    pub fn new(clock: Clock, metrics: &Metrics) -> Self {
        Self {
            sink: Arc::new(Sink::new(metrics.sink_dropped.clone())),
            usage: Arc::new(UsageMemory::new(clock.now().timestamp())),
            clock,
        }
    }

    /// Sums until `shutdown`, and then what is left. To be run on a thread of its own: adding records takes milliseconds,
    /// for which no request should wait.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let Self { sink, usage, clock } = self;
        sink.run(|records| usage.add(records, clock.now().timestamp()), shutdown).await;
        let requests = usage.requests();
        tracing::info!(requests, "usage was counted in memory and ends with the process");
    }
}
