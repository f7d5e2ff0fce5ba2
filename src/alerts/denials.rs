//! Counts the refused requests of each caller over a time, for one rule.
//!
//! Each caller has a few slots of time, so a count may include a tenth of the time more. The number of callers is bounded:
//! if there are more, those with the fewest refused requests give way.

use compact_str::CompactString;

use super::abuse::{CallerRequests, Places, Ranked, SeenRequest, SlotLength, Slots};
use super::conditions::Seen;
use super::labels::Labels;
use crate::clock::Timestamp;
use crate::policy::AlertRule;

/// Maximum number of callers that are counted.
const CALLERS_MAX: usize = 10_000;

/// Refused requests by domain and caller.
#[derive(Debug)]
pub struct DenialCounts {
    callers: Places<(CompactString, CompactString), Slots>,
    slots: SlotLength,
}

impl Ranked for Slots {
    fn rank(&self) -> (u64, u64) {
        (self.sum(), self.last())
    }
}

impl DenialCounts {
    /// Nothing is counted yet.
    pub fn new(rule: &AlertRule) -> Self {
        Self { callers: Places::new(CALLERS_MAX), slots: SlotLength::of(rule.over) }
    }

    /// Counts the refused requests of a caller.
    pub fn add(&mut self, requests: &CallerRequests<'_>) {
        let Some(caller) = requests.caller else { return };
        let refused = |requests: &[SeenRequest]| {
            requests.iter().filter(|request| request.is_refused).count() as u64
        };
        if refused(requests.requests) == 0 {
            return;
        }
        let counts = self.callers.value((requests.domain.into(), caller.clone()));
        for (slot, of_slot) in self.slots.split(requests.requests) {
            counts.add(slot, refused(of_slot));
        }
    }

    /// The counts now, of callers for whom the rule may fire.
    pub fn seen(&mut self, rule: &AlertRule, now: Timestamp) -> Vec<Seen> {
        let oldest = self.slots.oldest(now);
        self.callers.retain(|_, slots| slots.forget(oldest));
        let one = |((domain, caller), slots): (&(CompactString, CompactString), &Slots)| Seen {
            labels: Labels::new().with("domain", Some(domain)).with("caller", Some(caller)),
            value: slots.sum() as f64,
        };
        let may_fire = |(_, slots): &(&(CompactString, CompactString), &Slots)| {
            rule.may_fire(slots.sum() as f64)
        };
        self.callers.iter().filter(may_fire).map(one).collect()
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
    use std::time::Duration;

    use super::*;
    use crate::alerts::abuse::{Counted, Waiting};
    use crate::alerts::rule_counts::RuleCounts;
    use crate::clock::Clock;
    use crate::engine::testing::{Bench, START};
    use crate::engine::{DecisionRecord, Sink};
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

    /// Counts the requests of the records.
    fn requests(records: &[DecisionRecord], count: impl FnMut(&CallerRequests<'_>)) {
        let mut waiting = Waiting::default();
        let text = "alerts: { a: { when: denials, above: 5 } }".to_owned();
        let source = Source { path: "alerts.yaml".to_owned(), text };
        let counted = Counted::of(&compile_alerts(&[source]).unwrap());
        records.iter().for_each(|record| waiting.add(counted, record));
        waiting.count(START.after(Duration::from_secs(1)), count);
    }

    #[tokio::test]
    async fn refusals_are_counted_by_caller_and_forgotten_after_the_time() {
        let users = [("ann", 9), ("bob", 4)];
        let (rule, records) = records("{ when: denials, above: 5, clear: 2 }", &users).await;
        let mut counts = DenialCounts::new(&rule);
        requests(&records, |requests| counts.add(requests));
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
        let mut of_rule = RuleCounts::new(&rule).unwrap();
        requests(&records, |requests| of_rule.add(&rule, requests));
        let rule =
            AlertRule { filter: crate::policy::AlertFilter::default(), bounds: None, ..rule };
        assert_eq!(of_rule.seen(&rule, START), []);
        let mut counts = DenialCounts::new(&rule);
        for index in 0..CALLERS_MAX {
            let key = ("d".into(), format!("user {index}").into());
            counts.callers.value(key).add(index as u64, 1);
        }
        requests(&records, |requests| counts.add(requests));
        let names: BTreeSet<&str> = counts.callers.iter().map(|(key, _)| &*key.1).collect();
        assert!(names.len() <= CALLERS_MAX && names.contains("ann") && !names.contains("user 0"));
        let before = names.len();
        counts.erase(&|name| name == "ann");
        assert_eq!(counts.callers.iter().count(), before - 1);
    }
}
