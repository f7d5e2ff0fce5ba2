//! Takes the records of decisions from the sink: sums them as usage, writes refusals to the audit log, and keeps
//! refusals with an id.

use std::future::pending;
use std::sync::Arc;

use tokio::select;

use super::refusals::RefusalKeeper;
use super::usage::UsageConsumer;
use crate::alerts::{Alerts, UsageSources};
use crate::clock::Clock;
use crate::engine::{DecisionRecord, Sink, Wanted};
use crate::http::{Api, RefusalSources};
use crate::metrics::Metrics;
use crate::observe::audit::Audit;
use crate::observe::eraser::{CallerData, Eraser};
use crate::observe::recent_refusals::RecentRefusals;
use crate::settings::Settings;
use crate::store::redis::{RedisErasures, RedisRefusals};
use crate::store::{ReservationRecords, SumsStore};

/// The consumers of records.
#[derive(Debug)]
pub struct RecordConsumer {
    pub sink: Arc<Sink>,
    /// None: usage is not counted.
    pub usage: Option<UsageConsumer>,
    pub audit: Audit,
    pub refusals: RefusalKeeper,
    /// None: there are no alerts.
    pub alerts: Option<Alerts>,
}

/// The stores of records.
#[derive(Debug, Default)]
pub struct RecordStores {
    /// None: usage is not stored.
    pub sums: Option<Arc<SumsStore>>,
    pub refusals: Option<Arc<RedisRefusals>>,
    pub erasures: Option<Arc<RedisErasures>>,
    /// The records of reservations that are made over HTTP.
    pub reservations: Arc<ReservationRecords>,
    /// None: there are no alerts.
    pub alerts: Option<Alerts>,
}

/// The consumer of the settings, and the API that reads what it keeps.
pub fn build(
    settings: &Settings,
    metrics: &Metrics,
    audit: Audit,
    stores: RecordStores,
) -> (RecordConsumer, Api) {
    let RecordStores { sums, refusals: stored, erasures, reservations, alerts } = stores;
    let (usage, retention) = (settings.observing.usage, settings.observing.retention());
    let usage = usage.then(|| UsageConsumer::new(Clock::system(), sums.clone(), retention));
    let wanted =
        Wanted { all: usage.is_some() || alerts.is_some(), refusals: settings.audit.refusals };
    let sink = Arc::new(Sink::of(wanted, metrics.sink_dropped.clone()));
    let recent = Arc::new(RecentRefusals::new(settings.audit.explained_max));
    let unstored = metrics.audit.unstored.clone();
    let refusals = RefusalKeeper::new(recent.clone(), stored.clone(), unstored);
    let eraser = Eraser::new(CallerData {
        audit: audit.clone(),
        recent: recent.clone(),
        stored: stored.clone(),
        erasures,
        reservations: reservations.clone(),
        usage: usage.as_ref().map(|usage| usage.erasable(retention)),
        alerts: alerts.clone(),
    });
    let sources =
        |usage: &UsageConsumer| UsageSources { memory: usage.usage.clone(), sums, retention };
    let api = Api {
        tokens: settings.callers.api_tokens.clone(),
        audit: audit.clone(),
        api_keys: None,
        eraser,
        reservations,
        refusals: RefusalSources { recent, stored },
        usage: usage.as_ref().map(sources),
        dashboard: None,
        alerts: alerts.clone(),
    };
    (RecordConsumer { sink, usage, audit, refusals, alerts }, api)
}

impl RecordConsumer {
    /// Takes records until `shutdown`, and then the remaining ones. It needs its own thread.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let Self { sink, usage, audit, refusals, alerts } = self;
        let consume = |records: &[DecisionRecord]| {
            if let Some(usage) = &usage {
                usage.add(records);
            }
            audit.offer(records);
            refusals.add(records);
            if let Some(alerts) = &alerts {
                alerts.add(records);
            }
        };
        let sending = async {
            match &usage {
                Some(usage) => usage.run().await,
                None => pending().await,
            }
        };
        select! {
            () = sink.run(consume, shutdown) => {}
            () = sending => {}
            () = refusals.send() => {}
        }
        refusals.finish().await;
        if let Some(usage) = &usage {
            usage.finish().await;
        }
    }
}
