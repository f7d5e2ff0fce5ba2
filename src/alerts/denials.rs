//! Counts the refused requests of each caller over a time, for one rule.
//!
//! Each caller has a few slots of time, so a count may include a tenth of the time more. The number of callers is bounded:
//! if there are more, those with the fewest refused requests give way.

use std::time::Duration;

use compact_str::CompactString;

use super::abuse::{Places, Ranked, SLOTS, Slots, slot};
use super::conditions::Seen;
use super::labels::Labels;
use crate::clock::Timestamp;
use crate::engine::{Code, DecisionRecord};
use crate::policy::AlertRule;

/// Maximum number of callers that are counted.
const CALLERS_MAX: usize = 10_000;

/// Refused requests by domain and caller.
#[derive(Debug)]
pub struct DenialCounts {
    callers: Places<(CompactString, CompactString), Slots>,
    over: Duration,
}

impl Ranked for Slots {
    fn rank(&self) -> (u64, u64) {
        (self.sum(), self.last())
    }
}

impl DenialCounts {
    /// Nothing is counted yet.
    pub fn new(rule: &AlertRule) -> Self {
        Self { callers: Places::new(CALLERS_MAX), over: rule.over }
    }

    /// Counts a record if it is a refusal of the rule.
    pub fn add(&mut self, rule: &AlertRule, record: &DecisionRecord) {
        if record.code != Code::OverLimit || rule.filter.excludes(record.domain(), record.tier()) {
            return;
        }
        if let (Some(domain), Some(caller)) = (record.domain(), record.caller.clone()) {
            let slot = slot(self.over, record.at);
            self.callers.value((domain.into(), caller)).add(slot, 1);
        }
    }

    /// The counts now, of callers for whom the rule may fire.
    pub fn seen(&mut self, rule: &AlertRule, now: Timestamp) -> Vec<Seen> {
        let oldest = slot(self.over, now).saturating_sub(SLOTS);
        self.callers.retain(|_, slots| slots.forget(oldest));
        let one = |((domain, caller), slots): (&(CompactString, CompactString), &Slots)| Seen {
            labels: Labels::new().with("domain", Some(domain)).with("caller", Some(caller)),
            value: slots.sum() as f64,
        };
        let may_fire = |seen: &Seen| rule.may_fire(seen.value);
        self.callers.iter().map(one).filter(may_fire).collect()
    }

    /// Forgets callers.
    pub fn erase(&mut self, is_erased: &dyn Fn(&str) -> bool) {
        self.callers.retain(|(_, known), _| !is_erased(known));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
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
        let mut counts = DenialCounts::new(&rule);
        records.iter().for_each(|record| counts.add(&rule, record));
        let mut seen = |later_s| -> Vec<(String, f64)> {
            let mut seen = counts.seen(&rule, START.after(Duration::from_secs(later_s)));
            seen.sort_by(|one, other| one.labels.cmp(&other.labels));
            let caller = |one: &Seen| one.labels.get("caller").unwrap_or_default().to_owned();
            seen.iter().map(|one| (caller(one), one.value)).collect()
        };
        let both = vec![("ann".to_owned(), 8.0), ("bob".to_owned(), 3.0)];
        assert_eq!(seen(0), both, "the first request of each passed");
        assert_eq!(seen(50), both);
        assert_eq!(seen(70), []);
        assert_eq!(counts.callers.iter().count(), 0);
    }

    #[tokio::test]
    async fn a_rule_counts_only_its_domain_and_few_callers() {
        let rule = "{ when: denials, above: 5, domain: other }";
        let (rule, records) = records(rule, &[("ann", 3)]).await;
        let mut counts = DenialCounts::new(&rule);
        records.iter().for_each(|record| counts.add(&rule, record));
        assert_eq!(counts.callers.iter().count(), 0);
        let rule = AlertRule { filter: crate::policy::AlertFilter::default(), ..rule };
        for index in 0..CALLERS_MAX {
            let key = ("d".into(), format!("user {index}").into());
            counts.callers.value(key).add(index as u64, 1);
        }
        records.iter().for_each(|record| counts.add(&rule, record));
        let names: BTreeSet<&str> = counts.callers.iter().map(|(key, _)| &*key.1).collect();
        assert!(names.len() <= CALLERS_MAX && names.contains("ann") && !names.contains("user 0"));
        let before = names.len();
        counts.erase(&|name| name == "ann");
        assert_eq!(counts.callers.iter().count(), before - 1);
    }
}
