//! Takes what rules follow from the records of decisions.

use std::collections::BTreeMap;
use std::mem;
use std::sync::{Arc, Mutex};

use super::abuse::{Counted, Waiting};
use super::book::Firing;
use super::conditions::Seen;
use super::labels::{AlertId, Labels};
use super::rule_counts::RuleCounts;
use crate::clock::Timestamp;
use crate::engine::DecisionRecord;
use crate::lock::lock;
use crate::policy::{AlertPolicy, AlertRule, AlertSignal};

/// Maximum number of events between two ticks; more are dropped, and counted.
const EVENTS_MAX: usize = 5_000;

/// Events and counts of the rules.
#[derive(Debug, Default)]
pub struct Intake(Mutex<Taken>);

#[derive(Debug, Default)]
struct Taken {
    events: Vec<AlertEvent>,
    dropped: u64,
    waiting: Waiting,
    /// By the name of the rule.
    counts: BTreeMap<Arc<str>, RuleCounts>,
}

/// An event: a caller has crossed a threshold.
#[derive(Debug)]
pub struct AlertEvent {
    rule: Arc<str>,
    labels: Labels,
}

impl AlertEvent {
    /// The alert of the event; None if its rule is gone.
    pub fn firing<'p>(&self, policy: &'p AlertPolicy) -> Option<Firing<'p>> {
        let (rule, labels) = (policy.rule(&self.rule)?, self.labels.clone());
        Some(Firing { id: AlertId::new(&rule.name, &labels), rule, labels, value: None })
    }
}

impl Intake {
    /// Takes records. Their requests are counted within a second.
    pub fn add(&self, policy: &AlertPolicy, records: &[DecisionRecord]) {
        let mut taken = lock(&self.0);
        let counted = Counted::of(policy);
        for record in records {
            if record.has_crossings() {
                policy.rules.iter().for_each(|rule| taken.cross(rule, record));
            }
            taken.waiting.add(counted, record);
        }
        let latest = records.last().map(|record| record.at);
        latest.into_iter().for_each(|latest| taken.count(policy, latest));
    }

    /// Counts the requests that have waited, if it is time.
    pub fn count(&self, policy: &AlertPolicy, now: Timestamp) {
        lock(&self.0).count(policy, now);
    }

    /// Takes the events so far, and the number of those that were dropped.
    pub fn events(&self) -> (Vec<AlertEvent>, u64) {
        let mut taken = lock(&self.0);
        (mem::take(&mut taken.events), mem::take(&mut taken.dropped))
    }

    /// What a rule sees in records now.
    pub fn seen(&self, rule: &AlertRule, now: Timestamp) -> Vec<Seen> {
        let mut taken = lock(&self.0);
        taken.counts(rule).map(|counts| counts.seen(rule, now)).unwrap_or_default()
    }

    /// Forgets rules that are not in force.
    pub fn retain(&self, policy: &AlertPolicy) {
        lock(&self.0).counts.retain(|name, _| policy.rule(name).is_some());
    }

    /// Forgets callers.
    pub fn erase(&self, is_erased: &dyn Fn(&str) -> bool) {
        let mut taken = lock(&self.0);
        taken.waiting.erase(is_erased);
        taken.counts.values_mut().for_each(|counts| counts.erase(is_erased));
        taken.events.retain(|event| !event.labels.get("caller").is_some_and(is_erased));
    }
}

impl Taken {
    /// The counts of a rule; None if its signal is not counted in records. They begin anew if the rule has become another one.
    fn counts(&mut self, rule: &AlertRule) -> Option<&mut RuleCounts> {
        let known = self.counts.get(&rule.name).is_some_and(|counts| counts.is_of(rule));
        if !known {
            self.counts.insert(rule.name.clone(), RuleCounts::new(rule)?);
        }
        self.counts.get_mut(&rule.name)
    }

    /// Counts the requests that have waited, if it is time.
    fn count(&mut self, policy: &AlertPolicy, now: Timestamp) {
        if !self.waiting.is_due(now) {
            return;
        }
        for rule in &policy.rules {
            self.counts(rule);
        }
        let Self { waiting, counts, .. } = self;
        let counts = counts.iter_mut();
        let mut rules: Vec<_> =
            counts.filter_map(|(name, counts)| Some((policy.rule(name)?, counts))).collect();
        waiting.count(now, |requests| {
            rules.iter_mut().for_each(|(rule, counts)| counts.add(rule, requests));
        });
    }

    /// Takes the thresholds that a request has crossed, if the rule is about them.
    fn cross(&mut self, rule: &AlertRule, record: &DecisionRecord) {
        if rule.signal != AlertSignal::Threshold {
            return;
        }
        if rule.filter.excludes(record.domain(), record.tier()) {
            return;
        }
        for (limit, percent) in record.crossings() {
            let is_wanted = rule.percents.is_empty() || rule.percents.contains(&percent);
            if !is_wanted || rule.filter.excludes_limit(limit) {
                continue;
            }
            if EVENTS_MAX <= self.events.len() {
                self.dropped += 1;
                continue;
            }
            let labels = Labels::new()
                .with("domain", record.domain())
                .with("caller", record.caller.as_deref())
                .with("tier", record.tier())
                .with("limit", Some(limit))
                .with("percent", Some(&percent.to_string()));
            self.events.push(AlertEvent { rule: rule.name.clone(), labels });
        }
    }
}
