//! The latencies of providers in choices, as reported over `/v1/latencies`.
//!
//! Only names in the policy in force are stored, so clients can't fill the memory. A latency expires without new
//! reports, so that a provider that was slow may be chosen again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use crate::clock::Timestamp;
use crate::lock::lock;
use crate::policy::{LATENCY_MS_MAX, PolicySet};

/// The part of the difference by which a new value moves the mean: `mean += GAIN * (value - mean)`, an exponentially
/// weighted moving average as in RFC 6298, section 2, where it is an eighth. Reports are often means already.
const GAIN: f64 = 0.25;

/// How long a report is valid.
const HOLDS_MS: u64 = 5 * 60_000;

/// Latencies by name.
#[derive(Debug, Default)]
pub struct Latencies {
    /// Each lock is held only to copy a few words.
    by_name: BTreeMap<Box<str>, Arc<Mutex<Option<Reported>>>>,
}

/// The reports of one name.
#[derive(Clone, Copy, Debug)]
struct Reported {
    mean_ms: f64,
    at: Timestamp,
}

/// The reason that a report is rejected.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum LatencyError {
    #[error("no choice of the loaded policies has the name `{name}`")]
    UnknownName { name: String },
    #[error("invalid latency {ms} of `{name}`; use milliseconds, up to a day")]
    OutOfRange { name: String, ms: f64 },
}

impl Latencies {
    /// Empty latencies for the names in the choices of `policies`.
    pub fn new(policies: &PolicySet) -> Self {
        let domains = policies.domains();
        let choices = domains.iter().flat_map(|domain| &domain.choices);
        let candidates = choices.flat_map(|choice| &choice.candidates);
        let by_name =
            candidates.map(|candidate| (candidate.name.clone(), Arc::default())).collect();
        Self { by_name }
    }

    /// Shares the latencies of `other` for the names that both have, with their future reports.
    pub fn share(&mut self, other: &Self) {
        for (name, reported) in &mut self.by_name {
            if let Some(known) = other.by_name.get(name) {
                *reported = known.clone();
            }
        }
    }

    /// The latency of a name in milliseconds, if it is known.
    pub fn of(&self, name: &str, now: Timestamp) -> Option<f64> {
        let reported = *lock(self.by_name.get(name)?);
        reported.filter(|reported| reported.holds(now)).map(|reported| reported.mean_ms)
    }

    /// The names, each with its latency in milliseconds if it is known.
    pub fn known(&self, now: Timestamp) -> BTreeMap<String, Option<f64>> {
        self.by_name.keys().map(|name| (name.to_string(), self.of(name, now))).collect()
    }

    /// Checks latencies in milliseconds by name.
    ///
    /// # Errors
    /// If a name is in no choice, or a number is not a valid latency.
    pub fn check(&self, reported: &BTreeMap<String, f64>) -> Result<(), LatencyError> {
        for (name, ms) in reported {
            if !self.by_name.contains_key(name.as_str()) {
                return Err(LatencyError::UnknownName { name: name.clone() });
            }
            if !(0.0..=LATENCY_MS_MAX).contains(ms) {
                return Err(LatencyError::OutOfRange { name: name.clone(), ms: *ms });
            }
        }
        Ok(())
    }

    /// Stores latencies in milliseconds by name: all of them or none.
    ///
    /// # Errors
    /// As for `check`.
    pub fn note_all(
        &self,
        reported: &BTreeMap<String, f64>,
        now: Timestamp,
    ) -> Result<(), LatencyError> {
        self.check(reported)?;
        reported.iter().for_each(|(name, ms)| self.note(name, *ms, now));
        Ok(())
    }

    /// Stores a latency of a name.
    fn note(&self, name: &str, ms: f64, now: Timestamp) {
        let Some(reported) = self.by_name.get(name) else { return };
        let mut reported = lock(reported);
        let known = reported.filter(|reported| reported.holds(now));
        let mean_ms = known.map_or(ms, |known| known.mean_ms + GAIN * (ms - known.mean_ms));
        *reported = Some(Reported { mean_ms, at: now });
    }
}

impl Reported {
    fn holds(self, now: Timestamp) -> bool {
        now.as_ms().saturating_sub(self.at.as_ms()) < HOLDS_MS
    }
}
