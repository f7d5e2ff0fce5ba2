//! Evaluates the rules of alerts that follow stored usage: a task apart, because a store may take seconds to tell sums.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tokio::{pin, select};

use crate::alerts::{Alerts, Book, UsageSources, UsageWatcher};
use crate::engine::Engine;
use crate::policy::AlertSignal;

/// How often rules are looked at, so that an edit is live soon; each is evaluated once a minute.
const INTERVAL: Duration = Duration::from_secs(1);

/// Evaluates rules.
#[derive(Debug)]
pub struct PastAlertTask {
    alerts: Alerts,
    engine: Arc<Engine>,
    watcher: UsageWatcher,
}

impl PastAlertTask {
    /// A task that has evaluated nothing yet. Without sources, usage is not counted.
    pub fn new(alerts: Alerts, engine: Arc<Engine>, sources: Option<UsageSources>) -> Self {
        let watcher = UsageWatcher::new(sources, alerts.past.clone());
        Self { alerts, engine, watcher }
    }

    /// Runs until `shutdown`.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) {
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let work = async {
            loop {
                ticks.tick().await;
                let (policy, now) = (self.alerts.policy.load_full(), self.engine.now());
                // Only a rule that compares them needs the counts of providers.
                let book = match policy.follows(AlertSignal::Bypass) {
                    true => self.alerts.keeper.book().await,
                    false => Book::default(),
                };
                self.watcher.evaluate(&policy, &self.engine, (book.counts(), now)).await;
            }
        };
        pin!(shutdown, work);
        select! {
            () = &mut shutdown => {}
            () = &mut work => {}
        }
    }
}
