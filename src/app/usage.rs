//! Takes the records of decisions out of the sink, sums them, and sends the sums to a store that outlives the process.

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

/// How often sums are sent.
const SEND_INTERVAL: Duration = Duration::from_secs(1);

/// How long the last sums may take to be sent.
pub const LAST_SEND_TIMEOUT: Duration = Duration::from_secs(2);

/// Sums what the sink takes.
#[derive(Debug)]
pub struct UsageConsumer {
    pub sink: Arc<Sink>,
    pub usage: Arc<UsageMemory>,
    clock: Clock,
    sender: Option<Sender>,
}

/// Sends sums to a store.
#[derive(Debug)]
struct Sender {
    store: Arc<SumsStore>,
    outbox: Mutex<Outbox>,
    clock: Clock,
}

impl UsageConsumer {
    /// Counts from now on. What is counted also goes to a store, if there is one.
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

    /// Sums until `shutdown`, and then what is left. To be run on a thread of its own: adding records takes milliseconds,
    /// for which no request should wait.
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
    /// Sends sums for ever.
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

    /// Sends all that is counted so far; false: the store does not take it now.
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
