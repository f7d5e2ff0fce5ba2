//! Decides which rules fire, from the values that are seen. Pure: time is passed in.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::book::Firing;
use super::labels::{AlertId, Labels};
use crate::clock::Timestamp;
use crate::policy::{AlertPolicy, AlertRule};

/// Maximum number of alerts of one rule that are followed; others are not seen.
const FOLLOWED_MAX: usize = 1_000;

/// A value that a rule follows.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    pub labels: Labels,
    /// In the unit of the signal. For a signal without a value, 1 if it holds and 0 if not.
    pub value: f64,
}

/// The state of all rules.
#[derive(Debug, Default)]
pub struct Conditions {
    /// By the name of the rule, and the identity of the alert.
    rules: BTreeMap<Arc<str>, BTreeMap<AlertId, Condition>>,
}

/// The state of one rule for one subject.
#[derive(Debug)]
struct Condition {
    labels: Labels,
    /// The time since which the signal holds.
    since: Timestamp,
    is_firing: bool,
    value: f64,
}

impl Conditions {
    /// Takes the values that a rule sees now. A subject that is not seen no longer holds.
    pub fn see(&mut self, rule: &AlertRule, seen: Vec<Seen>, now: Timestamp) {
        let known = self.rules.entry(rule.name.clone()).or_default();
        let mut before = std::mem::take(known);
        for Seen { labels, value } in seen {
            let id = AlertId::new(&rule.name, &labels);
            let before = before.remove(&id);
            let was_firing = before.as_ref().is_some_and(|before| before.is_firing);
            if !holds(rule, value, was_firing) || FOLLOWED_MAX <= known.len() {
                continue;
            }
            let since = before.map_or(now, |before| before.since);
            let is_firing = was_firing || rule.hold <= now.since(since);
            known.insert(id, Condition { labels, since, is_firing, value });
        }
    }

    /// Forgets rules that are not in force.
    pub fn retain(&mut self, policy: &AlertPolicy) {
        self.rules.retain(|name, _| policy.rule(name).is_some());
    }

    /// All alerts that fire now.
    pub fn firing<'p>(&self, policy: &'p AlertPolicy) -> Vec<Firing<'p>> {
        let rules = self.rules.iter().filter_map(|(name, known)| Some((policy.rule(name)?, known)));
        let firing = |(rule, known): (&'p AlertRule, &BTreeMap<AlertId, Condition>)| {
            let firing = known.iter().filter(|(_, condition)| condition.is_firing);
            let one = |(id, condition): (&AlertId, &Condition)| Firing {
                id: id.clone(),
                rule,
                labels: condition.labels.clone(),
                value: rule.bounds.map(|_| condition.value),
            };
            firing.map(one).collect::<Vec<_>>()
        };
        rules.flat_map(firing).collect()
    }
}

/// Whether the value fires, or keeps firing what fires.
fn holds(rule: &AlertRule, value: f64, was_firing: bool) -> bool {
    let Some(bounds) = rule.bounds else { return value != 0.0 };
    match (was_firing, bounds.is_above) {
        (false, true) => bounds.fires < value,
        (false, false) => value < bounds.fires,
        (true, true) => bounds.clears < value,
        (true, false) => value < bounds.clears,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Source, compile_alerts};

    fn policy(rule: &str) -> AlertPolicy {
        let text = format!("alerts:\n  a: {rule}");
        compile_alerts(&[Source { path: "alerts.yaml".to_owned(), text }]).unwrap()
    }

    /// Checks whether the rule fires after each of the values, a second apart.
    #[track_caller]
    fn check(rule: &str, values: &[f64], expected: &str) {
        let policy = policy(rule);
        let mut conditions = Conditions::default();
        let mut shown = String::new();
        for (second, value) in values.iter().enumerate() {
            let seen = vec![Seen { labels: Labels::new(), value: *value }];
            let now = Timestamp::from_ms(second as u64 * 1_000);
            conditions.see(&policy.rules[0], seen, now);
            shown.push(if conditions.firing(&policy).is_empty() { '.' } else { 'F' });
        }
        assert_eq!(shown, expected, "{rule} {values:?}");
    }

    #[test]
    fn a_rule_fires_above_its_value_and_clears_at_it() {
        check("{ when: queue, above: 5 }", &[5.0, 6.0, 6.0, 5.0], ".FF.");
        check("{ when: certificate, below: 5s }", &[5.0, 4.0, 5.0], ".F.");
        check("{ when: store_down }", &[0.0, 1.0, 0.0], ".F.");
    }

    #[test]
    fn hysteresis_keeps_an_alert_open() {
        let rule = "{ when: queue, above: 5, clear: 2 }";
        check(rule, &[4.0, 6.0, 4.0, 3.0, 2.0, 4.0], ".FFF..");
        let rule = "{ when: certificate, below: 5s, clear: 8s }";
        check(rule, &[6.0, 4.0, 7.0, 8.0, 7.0], ".FF..");
    }

    #[test]
    fn a_signal_must_hold_for_the_time_without_a_break() {
        let rule = "{ when: queue, above: 5, for: 2s }";
        check(rule, &[6.0, 6.0, 6.0, 1.0, 6.0, 6.0], "..F...");
        check(rule, &[6.0, 6.0, 1.0, 6.0, 6.0, 6.0], ".....F");
    }

    #[test]
    fn subjects_are_followed_apart_and_gone_ones_clear() {
        let policy = policy("{ when: denials, above: 5 }");
        let mut conditions = Conditions::default();
        let labels = |caller| Labels::new().with("caller", Some(caller));
        let seen = |caller, value| Seen { labels: labels(caller), value };
        let now = Timestamp::from_ms(0);
        conditions.see(&policy.rules[0], vec![seen("ann", 6.0), seen("bob", 1.0)], now);
        let callers = |conditions: &Conditions| -> Vec<String> {
            let firing = conditions.firing(&policy);
            firing.iter().filter_map(|one| one.labels.get("caller").map(str::to_owned)).collect()
        };
        assert_eq!(callers(&conditions), ["ann"]);
        conditions.see(&policy.rules[0], vec![seen("bob", 7.0)], now);
        assert_eq!(callers(&conditions), ["bob"]);
    }

    #[test]
    fn the_number_of_followed_subjects_is_bounded() {
        let policy = policy("{ when: denials, above: 5 }");
        let mut conditions = Conditions::default();
        let seen = (0..FOLLOWED_MAX + 10).map(|index| Seen {
            labels: Labels::new().with("caller", Some(&index.to_string())),
            value: 6.0,
        });
        conditions.see(&policy.rules[0], seen.collect(), Timestamp::from_ms(0));
        assert_eq!(conditions.firing(&policy).len(), FOLLOWED_MAX);
    }
}
