//! Evaluates the rules that follow stored usage: each once a minute, and forecasts every 10 minutes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::bypass::bypass;
use super::forecast::forecast;
use super::refused::refused;
use super::seen::UsageSeen;
use super::sources::UsageSources;
use super::spend::spend;
use super::spike::SpikePast;
use crate::alerts::book::ProviderCount;
use crate::clock::Timestamp;
use crate::engine::Engine;
use crate::policy::{AlertPolicy, AlertRule, AlertSignal};

/// How often a rule is evaluated; a new or edited one at once.
const INTERVAL: Duration = Duration::from_secs(60);

/// How often forecasts are made: each reads weeks of usage of every caller.
const FORECAST_INTERVAL: Duration = Duration::from_secs(600);

/// Evaluates rules.
#[derive(Debug)]
pub struct UsageWatcher {
    /// None: usage is not counted.
    sources: Option<UsageSources>,
    seen: Arc<UsageSeen>,
    /// By the name of the rule: the rule then, and when it was evaluated last.
    evaluated: BTreeMap<Arc<str>, (AlertRule, Timestamp)>,
    /// Rules whose usage could not be read the last time.
    failing: BTreeSet<Arc<str>>,
    spikes: SpikePast,
    /// It was logged that usage is not counted.
    is_told: bool,
}

impl UsageWatcher {
    /// Has evaluated nothing yet. What rules see is put into `seen`.
    pub fn new(sources: Option<UsageSources>, seen: Arc<UsageSeen>) -> Self {
        Self {
            sources,
            seen,
            evaluated: BTreeMap::new(),
            failing: BTreeSet::new(),
            spikes: SpikePast::default(),
            is_told: false,
        }
    }

    /// Evaluates the rules that are due. If usage can't be read, a rule sees what it saw before, unless it was
    /// edited.
    pub async fn evaluate(
        &mut self,
        policy: &AlertPolicy,
        engine: &Engine,
        (counts, now): (&[ProviderCount], Timestamp),
    ) {
        self.seen.retain(policy);
        self.evaluated.retain(|name, _| policy.rule(name).is_some());
        self.failing.retain(|name| policy.rule(name).is_some());
        for rule in policy.rules.iter().filter(|rule| rule.signal.is_of_usage()) {
            let Some(sources) = self.sources.clone() else {
                if !self.is_told {
                    self.is_told = true;
                    let (alert, signal) = (&*rule.name, rule.signal.as_str());
                    tracing::warn!(
                        alert,
                        signal,
                        "an alert never fires: the setting `usage` is false"
                    );
                }
                return;
            };
            let is_fresh = |(known, at): &(AlertRule, Timestamp)| {
                known == rule && now.since(*at) < interval(rule)
            };
            if self.evaluated.get(&rule.name).is_some_and(is_fresh) {
                continue;
            }
            self.evaluated.insert(rule.name.clone(), (rule.clone(), now));
            let alert = &*rule.name;
            let seen = match rule.signal {
                AlertSignal::Forecast => told(forecast(&sources, engine, rule, now).await),
                AlertSignal::Bypass => told(bypass(&sources, rule, (counts, now)).await),
                AlertSignal::CallerRefused => told(refused(&sources, rule, now).await),
                AlertSignal::Spike => told(self.spikes.spikes(&sources, rule, now).await),
                _ => told(spend(&sources, &engine.policies(), rule, now).await),
            };
            match seen {
                Ok(seen) => {
                    self.failing.remove(&rule.name);
                    self.seen.put(rule, seen);
                }
                Err(error) if self.failing.insert(rule.name.clone()) => {
                    tracing::warn!(alert, %error, "reading usage for an alert failed; it sees what it saw before");
                }
                Err(error) => {
                    tracing::debug!(alert, %error, "reading usage for an alert failed again");
                }
            }
        }
    }
}

/// The reason of a failure as a text.
fn told<T>(seen: Result<T, impl ToString>) -> Result<T, String> {
    seen.map_err(|error| error.to_string())
}

fn interval(rule: &AlertRule) -> Duration {
    match rule.signal {
        AlertSignal::Forecast => FORECAST_INTERVAL,
        _ => INTERVAL,
    }
}
