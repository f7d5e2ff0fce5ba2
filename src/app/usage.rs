//! Sums the records of decisions, and sends the sums to the store of usage.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::clock::Clock;
use crate::engine::DecisionRecord;
use crate::lock::lock;
use crate::observe::eraser::ErasableUsage;
use crate::store::SumsStore;
use crate::usage::{Outbox, Retention, UsageMemory};

/// Interval of collecting sums, and of sending them.
const SEND_INTERVAL: Duration = Duration::from_secs(1);

/// Maximum time to send the last sums.
pub const LAST_SEND_TIMEOUT: Duration = Duration::from_secs(2);

/// Sums records.
#[derive(Debug)]
pub struct UsageConsumer {
    pub usage: Arc<UsageMemory>,
    clock: Clock,
    sender: Option<Sender>,
}

/// Sends sums to the store of usage.
#[derive(Debug)]
struct Sender {
    store: Arc<SumsStore>,
    outbox: Arc<Mutex<Outbox>>,
    clock: Clock,
}

impl UsageConsumer {
    /// Counts from now on. If there is a store of usage, the sums are also sent there.
    pub fn new(clock: Clock, store: Option<Arc<SumsStore>>, retention: Retention) -> Self {
        let now = clock.now().timestamp();
        let sender = store.map(|store| {
            let outbox = Arc::new(Mutex::new(Outbox::new(retention, now)));
            Sender { store, outbox, clock: clock.clone() }
        });
        Self { usage: Arc::new(UsageMemory::new(now)), clock, sender }
    }

    /// Where it keeps usage, to erase callers.
    pub fn erasable(&self, retention: Retention) -> ErasableUsage {
        let stored = |sender: &Sender| (sender.outbox.clone(), sender.store.clone());
        let stored = self.sender.as_ref().map(stored);
        ErasableUsage { memory: self.usage.clone(), stored, retention }
    }

    /// Sums records. It takes milliseconds, so no request should wait for its thread.
    pub fn add(&self, records: &[DecisionRecord]) {
        self.usage.add(records, self.clock.now().timestamp());
    }

    /// Collects sums, and sends them to the store of usage, until it is dropped.
    pub async fn run(&self) {
        let mut ticks = interval(SEND_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut was_sent = true;
        loop {
            ticks.tick().await;
            self.collect();
            let Some(sender) = &self.sender else { continue };
            let sent = sender.send().await;
            if sent && !was_sent {
                tracing::info!("usage is stored again");
            }
            was_sent = sent;
        }
    }

    /// Collects what was added since.
    fn collect(&self) {
        let now = self.clock.now().timestamp();
        let fresh = self.usage.collect(now);
        if let Some(sender) = &self.sender {
            lock(&sender.outbox).add(fresh, now);
        }
    }

    /// Sends the last sums.
    pub async fn finish(&self) {
        self.collect();
        let requests = self.usage.requests();
        let Some(sender) = &self.sender else {
            tracing::info!(requests, "usage was counted in memory and ends with the process");
            return;
        };
        match timeout(LAST_SEND_TIMEOUT, sender.send()).await.unwrap_or(false) {
            true => tracing::info!(requests, "usage was counted and stored"),
            false => tracing::warn!(requests, "usage was counted; its last sums were not stored"),
        }
    }
}

impl Sender {
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
