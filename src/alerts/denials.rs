//! Counts the refused requests of each caller over a time, for one rule.
//!
//! Each caller has a few slots of time, so a count may include a tenth of the time more. The number of callers is bounded:
//! if there are more, the count of the caller that was refused longest ago is dropped.

use std::collections::BTreeMap;
use std::time::Duration;

use super::conditions::Seen;
use super::labels::Labels;
use crate::clock::Timestamp;
use crate::engine::{Code, DecisionRecord};
use crate::policy::AlertRule;

/// Slots of the time of a rule.
const SLOTS: u64 = 10;

/// Maximum number of callers that are counted.
const CALLERS_MAX: usize = 10_000;

/// Refused requests by domain and caller.
#[derive(Debug, Default)]
pub struct DenialCounts {
    callers: BTreeMap<(Box<str>, Box<str>), Slots>,
}

/// The counts of one caller: the number of a slot and its count, oldest first.
#[derive(Debug, Default)]
struct Slots(Vec<(u64, u64)>);

impl DenialCounts {
    /// Counts a record if it is a refusal of the rule.
    pub fn add(&mut self, rule: &AlertRule, record: &DecisionRecord) {
        if record.code != Code::OverLimit || rule.filter.excludes(record.domain(), record.tier()) {
            return;
        }
        let (Some(domain), Some(caller)) = (record.domain(), record.caller.as_deref()) else {
            return;
        };
        let slot = slot(rule.over, record.at);
        let key = (domain.into(), caller.into());
        if !self.callers.contains_key(&key) && CALLERS_MAX <= self.callers.len() {
            self.make_place();
        }
        self.callers.entry(key).or_default().add(slot);
    }

    /// The counts of all callers now.
    pub fn seen(&mut self, rule: &AlertRule, now: Timestamp) -> Vec<Seen> {
        let oldest = slot(rule.over, now).saturating_sub(SLOTS);
        self.callers.retain(|_, slots| {
            slots.0.retain(|(slot, _)| oldest < *slot);
            !slots.0.is_empty()
        });
        let one = |((domain, caller), slots): (&(Box<str>, Box<str>), &Slots)| {
            let count: u64 = slots.0.iter().map(|(_, count)| count).sum();
            let labels = Labels::new().with("domain", Some(domain)).with("caller", Some(caller));
            Seen { labels, value: count as f64 }
        };
        self.callers.iter().map(one).collect()
    }

    /// Forgets a caller.
    pub fn erase(&mut self, caller: &str) {
        self.callers.retain(|(_, known), _| **known != *caller);
    }

    fn make_place(&mut self) {
        let last = |slots: &Slots| slots.0.last().map_or(0, |(slot, _)| *slot);
        let oldest = self.callers.iter().min_by_key(|(_, slots)| last(slots));
        if let Some(key) = oldest.map(|(key, _)| key.clone()) {
            self.callers.remove(&key);
        }
    }
}

impl Slots {
    fn add(&mut self, slot: u64) {
        match self.0.last_mut() {
            // Records of several threads are not in order.
            Some((last, count)) if slot <= *last => *count += 1,
            _ => self.0.push((slot, 1)),
        }
        let len = self.0.len();
        // At most one slot more than the time has.
        self.0.drain(..len.saturating_sub(11));
    }
}

fn slot(over: Duration, at: Timestamp) -> u64 {
    let over_ms = u64::try_from(over.as_millis()).unwrap_or(u64::MAX);
    at.as_ms() / (over_ms / SLOTS).max(1)
}
