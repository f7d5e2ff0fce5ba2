//! Takes the records of decisions from the sink, sums them, and sends the sums to the store of usage.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::select;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::clock::Clock;
use crate::engine::{DecisionRecord, Sink};
use crate::lock::lock;
use crate::metrics::Metrics;
use crate::store::SumsStore;
use crate::usage::{Outbox, Retention, UsageMemory};

/// Interval of sending sums.
const SEND_INTERVAL: Duration = Duration::from_secs(1);

/// Maximum time to send the last sums.
pub const LAST_SEND_TIMEOUT: Duration = Duration::from_secs(2);

/// Sums the records of the sink.
#[derive(Debug)]
pub struct UsageConsumer {
    pub sink: Arc<Sink>,
    pub usage: Arc<UsageMemory>,
    clock: Clock,
    sender: Option<Sender>,
}

/// Sends sums to the store of usage.
#[derive(Debug)]
struct Sender {
    store: Arc<SumsStore>,
    outbox: Mutex<Outbox>,
    clock: Clock,
}

impl UsageConsumer {
    /// Counts from now on. If there is a store of usage, the sums are also sent there.
    pub fn new(
        clock: Clock,
        metrics: &Metrics,
        store: Option<Arc<SumsStore>>,
        retention: Retention,
    ) -> Self {
        let now = clock.now().timestamp();
        let sender = store.map(|store| {
            let outbox = Mutex::new(Outbox::new(retention, now));
            Sender { store, outbox, clock: clock.clone() }
        });
        Self {
            sink: Arc::new(Sink::new(metrics.sink_dropped.clone())),
            usage: Arc::new(UsageMemory::new(now)),
            clock,
            sender,
        }
    }

    /// Sums records until `shutdown`, and then the remaining ones. It needs its own thread: adding records takes
    /// milliseconds, and no request should wait for that.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let Self { sink, usage, clock, sender } = self;
        let consume = |records: &[DecisionRecord]| {
            let now = clock.now().timestamp();
            usage.add(records, now);
            if let Some(sender) = &sender {
                lock(&sender.outbox).add(records, now);
            }
        };
        let consuming = sink.run(consume, shutdown);
        let Some(sender) = &sender else {
            consuming.await;
            let requests = usage.requests();
            tracing::info!(requests, "usage was counted in memory and ends with the process");
            return;
        };
        select! {
            () = consuming => {}
            () = sender.run() => {}
        }
        let sent = timeout(LAST_SEND_TIMEOUT, sender.send()).await.unwrap_or(false);
        let requests = usage.requests();
        match sent {
            true => tracing::info!(requests, "usage was counted and stored"),
            false => tracing::warn!(requests, "usage was counted; its last sums were not stored"),
        }
    }
}

impl Sender {
    /// Sends sums until it is dropped.
    async fn run(&self) {
        let mut ticks = interval(SEND_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut was_sent = true;
        loop {
            ticks.tick().await;
            let sent = self.send().await;
            if sent && !was_sent {
                tracing::info!("usage is stored again");
            }
            was_sent = sent;
        }
    }

    /// Sends all sums so far. Returns false if the store does not accept them now.
    async fn send(&self) -> bool {
        self.store.reopen(self.clock.now().timestamp());
        loop {
            let now = self.clock.now().timestamp();
            let Some(batch) = lock(&self.outbox).next(now) else { return true };
            match self.store.add(&batch).await {
                Ok(added) => lock(&self.outbox).confirm(added),
                Err(error) => {
                    if lock(&self.outbox).fail() {
                        tracing::warn!(%error, "storing usage failed; it is kept in memory and sent again");
                    }
                    return false;
                }
            }
        }
    }
}
