//! Follows the signals of alerts, keeps the book, and sends notifications. Without files of alerts, there is no such task.

mod answers;
mod observing;
mod past;
mod risk;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio::{pin, select};

use answers::Answers;
use observing::Observing;
use past::PastAlertTask;
use risk::RiskWatch;

use crate::alerts::{Alerts, Conditions, Counters, Firing, Keeper, Labels, Recent, Seen, Senders};
use crate::clock::{Clock, Timestamp};
use crate::engine::Engine;
use crate::http::{Api, Restrictor};
use crate::metrics::Metrics;
use crate::policy::{AlertPolicy, AlertRule, AlertSeverity, AlertSignal};
use crate::settings::Settings;
use crate::store::redis::RedisAlertBook;

/// How often the signals are read.
const INTERVAL: Duration = Duration::from_secs(1);

/// Maximum time to send what is due at the end.
const LAST_SEND_TIMEOUT: Duration = Duration::from_secs(2);

/// Random bytes in the name of a sidecar.
const NAME_LEN: usize = 8;

/// Follows signals and sends notifications.
#[derive(Debug)]
pub struct AlertTask {
    alerts: Alerts,
    engine: Arc<Engine>,
    metrics: Arc<Metrics>,
    sidecar: String,
    senders: Senders,
    conditions: Conditions,
    /// By the name of the rule.
    recent: BTreeMap<Arc<str>, Recent>,
    observing: Observing,
    risks: RiskWatch,
    answers: Answers,
    /// Since when there is no connection to the xDS server, as far as a rule has seen.
    xds_lost: Option<Timestamp>,
    /// Whether the last tick left alerts out because too many are open.
    is_full: bool,
    /// The names of the channels at the last tick.
    channels: BTreeSet<Arc<str>>,
    /// Those of channels that an edit has removed, until nothing is on its way to them.
    removed: BTreeSet<Arc<str>>,
}

/// Alerts, if there are files of them.
pub fn build(settings: &Settings, book: Option<Arc<RedisAlertBook>>) -> Option<Alerts> {
    if settings.alerts.files.is_empty() {
        return None;
    }
    let keeper = Arc::new(Keeper::new(Clock::system(), book));
    Some(Alerts { policy: Arc::default(), intake: Arc::default(), keeper, past: Arc::default() })
}

/// The task that follows signals and sends, and the one that evaluates rules over stored usage.
pub fn tasks(
    alerts: &Alerts,
    (engine, metrics): (Arc<Engine>, Arc<Metrics>),
    api: &Api,
) -> (AlertTask, PastAlertTask) {
    let past = PastAlertTask::new(alerts.clone(), engine.clone(), api.usage.clone());
    let restrictor = Restrictor::new(engine.clone(), metrics.clone(), api.clone());
    (AlertTask::new(alerts.clone(), (engine, metrics), restrictor), past)
}

impl AlertTask {
    /// A task that has seen nothing yet.
    fn new(
        alerts: Alerts,
        (engine, metrics): (Arc<Engine>, Arc<Metrics>),
        restrictor: Restrictor,
    ) -> Self {
        let mut bytes = [0; NAME_LEN];
        // Without randomness all such sidecars have the same name, and close alerts of each other.
        let _ = getrandom::fill(&mut bytes);
        let sidecar = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let senders = Senders::new(Clock::system(), metrics.alerts.clone());
        Self {
            alerts,
            engine,
            metrics,
            sidecar,
            senders,
            conditions: Conditions::default(),
            recent: BTreeMap::new(),
            observing: Observing::default(),
            risks: RiskWatch::default(),
            answers: Answers::new(restrictor),
            xds_lost: None,
            is_full: false,
            channels: BTreeSet::new(),
            removed: BTreeSet::new(),
        }
    }

    /// Runs until `shutdown`, and then sends what is due.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) {
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        pin!(shutdown);
        loop {
            select! {
                () = &mut shutdown => break,
                _ = ticks.tick() => self.tick().await,
                () = self.senders.next() => self.exchange().await,
            }
        }
        if timeout(LAST_SEND_TIMEOUT, self.finish()).await.is_err() {
            tracing::warn!("some notifications were not sent in time before the end");
        }
    }

    /// Sends what is due.
    async fn finish(&mut self) {
        self.alerts.keeper.end();
        self.tick().await;
        while self.senders.are_busy() {
            self.senders.next().await;
            self.exchange().await;
        }
    }

    async fn exchange(&mut self) {
        self.senders.exchange(&self.alerts.keeper, &self.alerts.policy.load_full()).await;
    }

    /// Reads the signals, changes the book after them, and begins to send.
    async fn tick(&mut self) {
        let policy = self.alerts.policy.load_full();
        let now = Clock::system().now().timestamp();
        self.retain(&policy);
        self.observing.follow(&self.engine, &policy);
        let counters = Counters::read(&self.metrics);
        self.alerts.intake.count(&policy, now);
        for rule in policy.rules.iter().filter(|rule| rule.signal != AlertSignal::Threshold) {
            let seen = self.seen((&policy, rule), (counters, now)).await;
            self.conditions.see(rule, seen, now);
        }
        let firing = self.conditions.firing(&policy);
        let of = |severity| firing.iter().filter(|one| one.rule.severity == severity).count();
        for severity in AlertSeverity::ALL {
            self.metrics.alerts.fire(severity.as_str(), of(severity));
        }
        let (events, dropped) = self.alerts.intake.events();
        if dropped != 0 {
            tracing::warn!(dropped, "events of alerts were dropped: there were too many at once");
        }
        let events: Vec<Firing<'_>> =
            events.iter().filter_map(|event| event.firing(&policy)).collect();
        let (sidecar, keeper, removed) = (&self.sidecar, &self.alerts.keeper, &self.removed);
        let (dropped, unsent, (dead, is_under_way), (claimed, counts)) = keeper
            .change(|book, now| {
                let before = book.dropped();
                book.sync(sidecar, (&policy, &firing), now);
                events.iter().for_each(|event| book.event(&policy, event, now));
                let dead = book.remove_channels(removed, now);
                let answers = (book.claim_answers(&policy, now), book.answer_counts(now));
                (book.dropped() - before, book.take_unsent(), dead, answers)
            })
            .await;
        self.metrics.alerts.answer(counts);
        self.answers.give(&self.alerts.keeper, claimed).await;
        if dropped != 0 && !self.is_full {
            tracing::warn!(dropped, "alerts are not opened: too many are open");
        }
        self.is_full = dropped != 0;
        for (channel, count) in unsent {
            self.metrics.alerts.dead(&channel, count);
            tracing::error!(channel, count, "notifications are not sent: too many wait to be sent");
        }
        for (channel, count) in dead {
            self.metrics.alerts.dead(&channel, count);
            tracing::warn!(channel, count, "notifications are not sent: their channel was removed");
        }
        if !is_under_way {
            self.removed.clear();
        }
        self.exchange().await;
    }

    /// Forgets rules that are not in force, and notes which channels no longer are.
    fn retain(&mut self, policy: &AlertPolicy) {
        self.conditions.retain(policy);
        self.alerts.intake.retain(policy);
        self.recent.retain(|name, _| policy.rule(name).is_some());
        let channels: BTreeSet<_> = policy.channels.iter().map(|one| one.name.clone()).collect();
        self.removed.extend(self.channels.difference(&channels).cloned());
        self.removed.retain(|name| !channels.contains(name));
        self.channels = channels;
    }

    /// What a rule sees now.
    async fn seen(
        &mut self,
        (policy, rule): (&AlertPolicy, &AlertRule),
        (counters, now): (Counters, Timestamp),
    ) -> Vec<Seen> {
        let one = |value: f64| vec![Seen { labels: Labels::new(), value }];
        match rule.signal {
            AlertSignal::Threshold => Vec::new(),
            AlertSignal::Denials
            | AlertSignal::AddressCallers
            | AlertSignal::AddressApiKeys
            | AlertSignal::CallerAddresses
            | AlertSignal::ApiKeyAddresses
            | AlertSignal::Burst
            | AlertSignal::Probing => self.alerts.intake.seen(rule, now),
            AlertSignal::Risk => self.risks.seen(&self.alerts, (policy, rule)).await,
            AlertSignal::StoreDown => one(f64::from(u8::from(!self.engine.store().is_available()))),
            AlertSignal::Queue => one(self.metrics.sharing.waiting.get() as f64),
            AlertSignal::Capacity => capacity(&self.engine, rule).await,
            AlertSignal::ConfigInvalid => self.config(),
            AlertSignal::Certificate => self.certificates(now),
            AlertSignal::XdsSilent => self.xds(now),
            AlertSignal::Spend
            | AlertSignal::Budget
            | AlertSignal::Spike
            | AlertSignal::CallerRefused
            | AlertSignal::Bypass
            | AlertSignal::Forecast => self.alerts.past.of(rule),
            AlertSignal::Refused
            | AlertSignal::Errors
            | AlertSignal::StoreErrors
            | AlertSignal::Latency
            | AlertSignal::QueueDelay => {
                let recent = self.recent.entry(rule.name.clone()).or_default();
                recent.push(rule, counters, now).map(one).unwrap_or_default()
            }
        }
    }

    fn config(&self) -> Vec<Seen> {
        let files = [
            ("policies", self.metrics.policy_rejected.get() == 1),
            ("callers", self.metrics.callers.is_rejected()),
            ("alerts", self.metrics.alerts.is_rejected()),
        ];
        let seen = |(files, is_rejected)| Seen {
            labels: Labels::new().with("files", Some(files)),
            value: f64::from(u8::from(is_rejected)),
        };
        files.into_iter().map(seen).collect()
    }

    /// The time since when there is no connection to the xDS server, in seconds.
    fn xds(&mut self, now: Timestamp) -> Vec<Seen> {
        let Some(is_connected) = self.metrics.xds.is_connected() else { return Vec::new() };
        if is_connected {
            self.xds_lost = None;
            return Vec::new();
        }
        let value = now.since(*self.xds_lost.get_or_insert(now)).as_secs_f64();
        vec![Seen { labels: Labels::new(), value }]
    }

    /// The time until each certificate expires, in seconds.
    fn certificates(&self, now: Timestamp) -> Vec<Seen> {
        let now_s = now.as_ms() as f64 / 1_000.0;
        let seen = |(port, at_s): (&str, u64)| Seen {
            labels: Labels::new().with("port", Some(port)),
            value: (at_s as f64 - now_s).max(0.0),
        };
        self.metrics.certificates.expiries().map(seen).collect()
    }
}

/// The used part of each limit of the providers.
async fn capacity(engine: &Engine, rule: &AlertRule) -> Vec<Seen> {
    let filter = &rule.filter;
    let is_wanted = |domain: &str, provider: &str| {
        !filter.excludes(Some(domain), None) && !filter.excludes_provider(provider)
    };
    let mut seen = Vec::new();
    for provider in engine.providers(is_wanted).await {
        for limit in provider.limits.iter().filter(|limit| limit.capacity != 0) {
            if filter.excludes_limit(&limit.label) {
                continue;
            }
            let labels = Labels::new()
                .with("domain", Some(&provider.domain))
                .with("provider", Some(&provider.name))
                .with("limit", Some(&limit.label));
            let value = limit.used as f64 * 100.0 / limit.capacity as f64;
            seen.push(Seen { labels, value });
        }
    }
    seen
}
