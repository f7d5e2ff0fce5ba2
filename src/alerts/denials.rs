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

    /// The counts now, of callers for whom the rule may fire.
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
        let least = rule.bounds.filter(|bounds| bounds.is_above).map(|bounds| bounds.clears);
        let may_fire = |seen: &Seen| least.is_none_or(|least| least < seen.value);
        self.callers.iter().map(one).filter(may_fire).collect()
    }

    /// Forgets callers.
    pub fn erase(&mut self, is_erased: &dyn Fn(&str) -> bool) {
        self.callers.retain(|(_, known), _| !is_erased(known));
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::Clock;
    use crate::engine::Sink;
    use crate::engine::testing::{Bench, START};
    use crate::metrics::Counter;
    use crate::policy::{Source, compile_alerts};

    const POLICY: &str = "
domain: d
caller: { key: user }
descriptors: [{ key: user, limits: [1/day] }]";

    /// The rule, and the records of so many requests of each user.
    async fn records(rule: &str, users: &[(&str, u64)]) -> (AlertRule, Vec<DecisionRecord>) {
        let text = format!("alerts:\n  a: {rule}");
        let source = Source { path: "alerts.yaml".to_owned(), text };
        let rule = compile_alerts(&[source]).unwrap().rules.remove(0);
        let mut bench = Bench::timed(Clock::manual(START));
        let sink = Arc::new(Sink::new(Counter::default()));
        bench.engine = bench.engine.with_sink(sink.clone());
        bench.put_in_force(POLICY);
        for (user, times) in users {
            for _ in 0..*times {
                bench.ask_for(&[&format!("user={user}")]).await;
            }
        }
        let mut records = Vec::new();
        sink.drain(&mut Vec::new(), &mut |some| records.extend_from_slice(some));
        (rule, records)
    }

    #[tokio::test]
    async fn refusals_are_counted_by_caller_and_forgotten_after_the_time() {
        let users = [("ann", 9), ("bob", 4)];
        let (rule, records) = records("{ when: denials, above: 5, clear: 2 }", &users).await;
        let mut counts = DenialCounts::default();
        records.iter().for_each(|record| counts.add(&rule, record));
        let mut seen = |later_s| -> Vec<(String, f64)> {
            let seen = counts.seen(&rule, START.after(Duration::from_secs(later_s)));
            let caller = |one: &Seen| one.labels.get("caller").unwrap_or_default().to_owned();
            seen.iter().map(|one| (caller(one), one.value)).collect()
        };
        let both = vec![("ann".to_owned(), 8.0), ("bob".to_owned(), 3.0)];
        assert_eq!(seen(0), both, "the first request of each passed");
        assert_eq!(seen(50), both);
        assert_eq!(seen(70), []);
        assert!(counts.callers.is_empty());
    }

    #[tokio::test]
    async fn a_rule_counts_only_its_domain_and_few_callers() {
        let rule = "{ when: denials, above: 5, domain: other }";
        let (rule, records) = records(rule, &[("ann", 3)]).await;
        let mut counts = DenialCounts::default();
        records.iter().for_each(|record| counts.add(&rule, record));
        assert!(counts.callers.is_empty());
        let rule = AlertRule { filter: crate::policy::AlertFilter::default(), ..rule };
        for index in 0..CALLERS_MAX {
            let key = ("d".into(), format!("user {index}").into());
            counts.callers.insert(key, Slots(vec![(index as u64, 1)]));
        }
        records.iter().for_each(|record| counts.add(&rule, record));
        assert_eq!(counts.callers.len(), CALLERS_MAX);
        assert!(!counts.callers.contains_key(&("d".into(), "user 0".into())));
        counts.erase(&|name| name == "ann");
        assert_eq!(counts.callers.len(), CALLERS_MAX - 1);
    }
}
