//! Silences: what holds back notifications for a time.

use serde::{Deserialize, Serialize};

use super::alert::OpenAlert;
use crate::alerts::labels::Labels;
use crate::clock::Timestamp;

/// Holds back the notifications of some alerts for a time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Silence {
    pub id: String,
    /// Only alerts of this rule; None: of all.
    pub rule: Option<String>,
    /// Only alerts with all of these labels.
    pub labels: Labels,
    pub from_ms: u64,
    pub until_ms: u64,
    pub by: String,
    pub comment: String,
}

impl Silence {
    /// Whether it holds back an alert now.
    pub fn covers(&self, alert: &OpenAlert, now: Timestamp) -> bool {
        let has = |(name, value): (&str, &str)| alert.labels.get(name) == Some(value);
        (self.from_ms..self.until_ms).contains(&now.as_ms())
            && self.rule.as_ref().is_none_or(|rule| *rule == alert.rule)
            && self.labels.iter().all(has)
    }
}
