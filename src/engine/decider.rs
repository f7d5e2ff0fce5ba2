//! The parts that decide requests: the store, the directory, the clock, and the queues before the store.

use std::sync::Arc;

use crate::clock::{Clock, Now, Stopwatch};
use crate::metrics::Metrics;
use crate::policy::{Domain, Lineage};
use crate::store::{Batch, Directory, Outcome};

use super::admission::AdmissionControl;
use super::caller::entry;
use super::deadline::DeadlineBudget;
use super::plan::ModeSettings;
use super::request::Request;
use super::snapshot::NearLimit;
use super::store::AnyStore;
use super::wait_queues::WaitQueues;

/// The parts of an engine.
#[derive(Debug)]
pub struct EngineSettings {
    pub store: AnyStore,
    /// The directory of callers.
    pub directory: Directory,
    pub clock: Clock,
    pub modes: ModeSettings,
    /// The threshold of near-limit metrics.
    pub near_limit: NearLimit,
    pub metrics: Arc<Metrics>,
}

/// Decides requests.
#[derive(Debug)]
pub struct Decider {
    pub settings: EngineSettings,
    /// Requests that wait for capacity.
    pub queues: WaitQueues,
    /// Requests that wait for the store.
    pub admission: Arc<AdmissionControl>,
}

impl Decider {
    /// A decider without waiting requests.
    pub fn new(settings: EngineSettings) -> Self {
        Self { settings, queues: WaitQueues::default(), admission: Arc::default() }
    }

    /// The record of the request's caller in the directory.
    pub async fn lineage(
        &self,
        domain: &Domain,
        request: &Request<'_>,
        budget: &DeadlineBudget,
    ) -> Lineage {
        let key = domain.classes.caller_key.as_deref();
        let Some(name) = key.and_then(|key| entry(request, key)) else {
            return Lineage::default();
        };
        let directory = &self.settings.directory;
        match directory.cached(name) {
            Some(lineage) => lineage,
            None => {
                let stopwatch = Stopwatch::start();
                let _permit = self.admission.permit();
                // Boxed, because it is large and rare.
                let lineage = Box::pin(directory.lineage(name, budget.wait())).await;
                budget.spend(stopwatch.elapsed());
                if lineage.is_incomplete {
                    budget.exhaust();
                }
                lineage
            }
        }
    }

    /// The time of a request that arrived at `now`, plus its waits for the store.
    pub fn time(&self, now: Now, budget: &DeadlineBudget) -> Now {
        if budget.spent().is_zero() { now } else { self.settings.clock.now() }
    }

    /// Asks the store to charge a batch. If it can't within the budget, `on_outage` of the limits decides.
    pub async fn charge(&self, batch: &Batch, budget: &DeadlineBudget, now: Now) -> Outcome {
        let metrics = &self.settings.metrics;
        if batch.charges.is_empty() {
            return Outcome::nothing(now.timestamp());
        }
        let store = &self.settings.store;
        if budget.is_exhausted() {
            // The limits and amounts of the caller are unknown, so `on_outage` decides.
            return store.decide_alone(batch, now);
        }
        if let Some(known) = store.answer(batch, now) {
            return known;
        }
        let stopwatch = Stopwatch::start();
        let _permit = self.admission.permit();
        // Boxed, because it is ten times as large as the rest, and would make every request larger.
        let answer = Box::pin(store.ask(batch, now, budget.wait())).await;
        let elapsed = stopwatch.elapsed();
        budget.spend(elapsed);
        metrics.store_duration.observe(elapsed);
        if let Some(error) = answer.error {
            metrics.store_error(error.kind());
        }
        answer.outcome
    }
}
