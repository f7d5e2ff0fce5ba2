//! Limits that follow signals: takes signals, measures utilization, and puts scales in force; requests only read those.
//!
//! Signals and states are in the store, so that all sidecars follow the same ones. A state is a function of the state
//! before it and of a signal (`limit/adjust.rs`), so sidecars that see the same signal write the same state, whoever comes
//! last. While the store is unavailable, each goes on from what it last read.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::limit::{Hits, Scale, Signal};
use crate::lock::lock;
use crate::policy::{Adjust, Domain, InForce, RuleLimit, SignalSource};
use crate::store::StoreError;
use crate::store::signals::{
    SignalChange, parse_signal, parse_state, signal_text, state_text, told_at,
};

use super::Engine;
use super::request::{Descriptor, HitsSource, Request};
use super::snapshot::Snapshot;

/// The largest value of a signal.
pub const SIGNAL_MAX: f64 = 1e15;

/// How long a measured utilization is taken before it is measured again, by whichever sidecar is first.
const MEASURED_MS: u64 = 1_000;

/// How long a field stays that nothing follows or reports any more.
const FIELD_LIFE_MS: u64 = 86_400_000;

/// Why a signal can't be taken.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SignalError {
    #[error("no limit of the loaded policies follows the signal `{name}`")]
    UnknownName { name: String },
    #[error("invalid value {value}; use a number from 0 to {SIGNAL_MAX}")]
    OutOfRange { value: f64 },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A limit that follows a signal.
#[derive(Clone, Debug)]
pub struct AdjustedLimit {
    pub domain: String,
    pub label: Arc<str>,
    pub adjust: Arc<Adjust>,
}

/// The field of a reported signal.
fn signal_field(name: &str) -> String {
    format!("s\n{name}")
}

/// The field of a state.
fn state_field(adjust: &Adjust) -> String {
    format!("a\n{}", adjust.id)
}

impl Engine {
    /// Takes a signal that limits may follow.
    ///
    /// # Errors
    /// When no limit follows it, when its value is out of range, or when the store does not take it.
    pub async fn note_signal(&self, name: &str, value: f64) -> Result<(), SignalError> {
        self.check_signal(name, value)?;
        let text = signal_text(Signal { value, at: self.now() });
        let set = vec![(signal_field(name), text)];
        self.change_signals(&SignalChange { set, removed: Vec::new() }).await?;
        Ok(())
    }

    /// Whether a value of a signal may be taken.
    ///
    /// # Errors
    /// When no limit follows it, or when its value is out of range.
    pub fn check_signal(&self, name: &str, value: f64) -> Result<(), SignalError> {
        if !self.signals().contains_key(name) {
            return Err(SignalError::UnknownName { name: name.to_owned() });
        }
        if !(0.0..=SIGNAL_MAX).contains(&value) {
            return Err(SignalError::OutOfRange { value });
        }
        Ok(())
    }

    /// The reported signals that limits follow, each with its last value, if it was ever told.
    pub fn signals(&self) -> BTreeMap<String, Option<Signal>> {
        let known = lock(&self.known_signals).fields.clone();
        let adjusted = self.adjusted_limits().into_iter();
        let signals = adjusted.filter_map(|limit| match &limit.adjust.signal {
            SignalSource::Reported(name) => {
                let reported = known.get(&signal_field(name)).and_then(|text| parse_signal(text));
                Some((name.to_string(), reported))
            }
            SignalSource::Utilization(_) => None,
        });
        signals.collect()
    }

    /// The limits that follow signals.
    pub fn adjusted_limits(&self) -> Vec<AdjustedLimit> {
        adjusted(&self.snapshot.load()).collect()
    }

    /// Puts the present scales of all limits in force that follow signals, and the changes of providers. To be called once a
    /// second.
    pub async fn adjust(&self) {
        let snapshot = self.snapshot.load_full();
        if !snapshot.has_providers && adjusted(&snapshot).next().is_none() {
            return;
        }
        let changes = lock(&self.known_signals).changes;
        let is_read = match self.store().signals().await {
            Ok(fields) => {
                let mut known = lock(&self.known_signals);
                // What is changed here meanwhile may not be in what was read.
                if known.changes == changes {
                    known.fields = fields;
                }
                true
            }
            // That the store is unavailable is told elsewhere.
            Err(_) => false,
        };
        self.follow_controls(&snapshot);
        let mut change = SignalChange::default();
        for domain in snapshot.policies.domains() {
            let mut scales: BTreeMap<&str, Scale> = BTreeMap::new();
            for limit in domain.limits() {
                if let Some(adjust) = &limit.adjust {
                    let set =
                        self.adjust_one(&snapshot, (domain, &**limit, &**adjust), is_read).await;
                    change.set.extend(set);
                    let least = scales.entry(&limit.label).or_insert(Scale::ALL);
                    *least = adjust.scale().min(*least);
                }
            }
            let metrics = &self.decider.settings.metrics.adjustments;
            for (label, scale) in scales {
                metrics.show((&domain.name, label), scale.hundredths());
            }
        }
        let oldest_ms = self.now().as_ms().saturating_sub(FIELD_LIFE_MS);
        change.removed = {
            let known = lock(&self.known_signals);
            let is_old = |text: &str| told_at(text).is_none_or(|at| at.as_ms() < oldest_ms);
            let old = known.fields.iter().filter(|(_, text)| is_old(text));
            old.map(|(field, _)| field.clone()).collect()
        };
        if is_read && !change.is_empty() {
            // If it fails, the next look does it again.
            let _ = self.change_signals(&change).await;
        }
    }

    /// Puts the scale of a limit in force. Returns its state if a signal has changed it.
    async fn adjust_one(
        &self,
        snapshot: &Snapshot,
        (domain, limit, adjust): (&Domain, &RuleLimit, &Adjust),
        is_read: bool,
    ) -> Option<(String, String)> {
        let field = state_field(adjust);
        let known = |field: &str| lock(&self.known_signals).fields.get(field).cloned();
        let mut state = known(&field).and_then(|text| parse_state(&text));
        let now = self.now();
        let signal = match &adjust.signal {
            SignalSource::Reported(name) => {
                known(&signal_field(name)).and_then(|text| parse_signal(&text))
            }
            SignalSource::Utilization(entries) => {
                let reported = state.map(|state| state.signal.at.as_ms().abs_diff(now.as_ms()));
                match is_read && reported.is_none_or(|age_ms| MEASURED_MS <= age_ms) {
                    true => {
                        let value = self.utilization(snapshot, domain, entries).await;
                        value.map(|value| Signal { value, at: now })
                    }
                    false => None,
                }
            }
        };
        let news = signal.filter(|signal| state.is_none_or(|state| state.signal != *signal));
        if let Some(signal) = news {
            state = Some(adjust.adjustment.observe(state.as_ref(), signal));
        }
        let adjusted = adjust.adjustment.at(state.as_ref(), now);
        let metrics = &self.decider.settings.metrics.adjustments;
        let scales = [adjust.scale(), adjusted.scale].map(Scale::hundredths);
        metrics.count((&*domain.name, &*limit.label), scales, adjusted.reason.name());
        adjust.put_in_force(InForce { adjusted, state });
        let written = state.filter(|_| news.is_some())?;
        Some((field, state_text(&written)))
    }

    /// The utilization of the limits that a descriptor meets: that of the fullest, from 0 to 1 and above where it is overdrawn.
    /// None if it is unknown.
    async fn utilization(
        &self,
        snapshot: &Snapshot,
        domain: &Domain,
        entries: &[(Box<str>, Box<str>)],
    ) -> Option<f64> {
        let entries = entries.iter().map(|(key, value)| (&**key, &**value)).collect();
        let (hits, hits_source) = (Hits::GiveBack(0), HitsSource::Request);
        let descriptor = Descriptor { entries, hits, hits_source, limit: None };
        let request = Request::try_new(&domain.name, vec![descriptor]).ok()?;
        // Boxed, because it is large and seldom.
        let preview = Box::pin(self.preview(snapshot, &request)).await;
        if preview.verdict.fallback {
            return None;
        }
        let parts = preview.standings().filter(|standing| standing.charge.quota != 0);
        parts.map(|standing| standing.used as f64 / standing.charge.quota as f64).reduce(f64::max)
    }

    pub(super) async fn change_signals(&self, change: &SignalChange) -> Result<(), StoreError> {
        self.store().change_signals(change).await?;
        let mut known = lock(&self.known_signals);
        known.changes += 1;
        change.apply(&mut known.fields);
        Ok(())
    }
}

impl Snapshot {
    /// Takes over the scales that are in force for limits that `other` has too.
    pub(super) fn keep_scales(&self, other: &Self) {
        let known: BTreeMap<Box<str>, Option<InForce>> = adjusted(other)
            .map(|limit| (limit.adjust.id.clone(), limit.adjust.in_force()))
            .collect();
        for limit in adjusted(self) {
            if let Some(Some(in_force)) = known.get(&limit.adjust.id) {
                limit.adjust.put_in_force(*in_force);
            }
        }
    }
}

fn adjusted(snapshot: &Snapshot) -> impl Iterator<Item = AdjustedLimit> {
    let domains = snapshot.policies.domains().into_iter();
    domains.flat_map(|domain| {
        let limits = domain.limits().into_iter();
        limits.filter_map(|limit| {
            let adjust = limit.adjust.clone()?;
            Some(AdjustedLimit { domain: domain.name.clone(), label: limit.label.clone(), adjust })
        })
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::engine::ModeSettings;
    use crate::engine::testing::bench;

    /// The metric has the least that is in force, whichever limit comes last.
    #[tokio::test]
    async fn limits_of_one_name_share_a_metric() {
        let policy = "
domain: d
descriptors:
- {key: a, limits: [{name: search, rate: 9/day, adjust: {signal: first, above: 5%, below: 2%, least: 20%}}]}
- {key: b, limits: [{name: search, rate: 9/day, adjust: {signal: second, above: 5%, below: 2%, least: 20%}}]}";
        for (first, second) in [(0.2, 0.0), (0.0, 0.2)] {
            let bench = bench(policy, ModeSettings::default());
            for _ in 0..4 {
                bench.engine.note_signal("first", first).await.unwrap();
                bench.engine.note_signal("second", second).await.unwrap();
                bench.engine.adjust().await;
                bench.clock.advance(Duration::from_secs(10));
            }
            let text = bench.metrics.encode();
            let line = r#"tollgate_adjusted_percent{domain="d",limit="search"} 70"#;
            assert!(text.lines().any(|known| known == line), "{text}");
        }
    }
}
