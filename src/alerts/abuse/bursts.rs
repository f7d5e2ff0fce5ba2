//! Counts the requests of a caller that arrive together: the most within any time of the length of a rule.
//!
//! The time is a sliding window in ten slots, so a count includes requests of up to a tenth of the time more. The highest count is
//! known for a minute after the last one for which the rule fires, so that people and channels see a burst of an instant.

use std::time::Duration;

use compact_str::CompactString;

use super::in_order::InOrder;
use super::places::{Places, Ranked};
use super::slots::{SLOTS, Slots, slot};
use crate::alerts::conditions::Seen;
use crate::alerts::labels::Labels;
use crate::clock::Timestamp;
use crate::engine::DecisionRecord;
use crate::policy::AlertRule;

/// Maximum number of callers.
const CALLERS_MAX: usize = 10_000;

/// How long a burst is known.
const KNOWN: Duration = Duration::from_secs(60);

/// The bursts of each caller, for one rule.
#[derive(Debug)]
pub struct BurstCounts {
    callers: Places<Caller, Requests>,
    arriving: InOrder<Caller>,
    over: Duration,
}

/// Domain and caller.
type Caller = (CompactString, CompactString);

/// The requests of one caller.
#[derive(Debug, Default)]
struct Requests {
    slots: Slots,
    /// The highest count, and when a count last was so high that the rule fires, or the highest.
    peak: u64,
    peak_ms: u64,
    last_ms: u64,
}

impl Ranked for Requests {
    fn rank(&self) -> (u64, u64) {
        (self.peak, self.last_ms)
    }
}

impl BurstCounts {
    /// Nothing is counted yet.
    pub fn new(rule: &AlertRule) -> Self {
        let callers = Places::new(CALLERS_MAX);
        Self { callers, arriving: InOrder::default(), over: rule.over }
    }

    /// Takes a record if it is a request of the rule.
    pub fn add(&mut self, rule: &AlertRule, record: &DecisionRecord) {
        if !record.is_request || rule.filter.excludes(record.domain(), record.tier()) {
            return;
        }
        if let (Some(domain), Some(caller)) = (record.domain(), record.caller.clone()) {
            for (at, caller) in self.arriving.add(record.at, (domain.into(), caller)) {
                self.count(rule, caller, at);
            }
        }
    }

    /// The highest counts, of callers for whom the rule may fire.
    pub fn seen(&mut self, rule: &AlertRule, now: Timestamp) -> Vec<Seen> {
        for (at, caller) in self.arriving.ready(now) {
            self.count(rule, caller, at);
        }
        let known_from = now.before(KNOWN).as_ms();
        self.callers.retain(|_, requests| {
            if requests.peak_ms < known_from {
                requests.peak = 0;
            }
            known_from <= requests.last_ms
        });
        let one = |((domain, caller), requests): (&Caller, &Requests)| Seen {
            labels: Labels::new().with("domain", Some(domain)).with("caller", Some(caller)),
            value: requests.peak as f64,
        };
        let may_fire = |seen: &Seen| rule.may_fire(seen.value);
        self.callers.iter().map(one).filter(may_fire).collect()
    }

    /// Forgets callers.
    pub fn erase(&mut self, is_erased: &dyn Fn(&str) -> bool) {
        self.callers.retain(|(_, caller), _| !is_erased(caller));
        self.arriving.retain(|(_, caller)| !is_erased(caller));
    }

    fn count(&mut self, rule: &AlertRule, caller: Caller, at: Timestamp) {
        let slot = slot(self.over, at);
        let requests = self.callers.value(caller);
        requests.slots.add(slot, 1);
        requests.slots.forget(slot.saturating_sub(SLOTS));
        requests.last_ms = at.as_ms();
        let count = requests.slots.sum();
        if requests.peak <= count || rule.fires(count as f64) {
            requests.peak = requests.peak.max(count);
            requests.peak_ms = at.as_ms();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Source, compile_alerts};

    /// The value a second after these requests, in milliseconds, and 50 and 70 seconds later.
    #[track_caller]
    fn check(rule: &str, requests: impl Iterator<Item = u64>, expected: [u32; 3]) {
        let text = format!("alerts:\n  a: {rule}");
        let source = Source { path: "alerts.yaml".to_owned(), text };
        let rule = compile_alerts(&[source]).unwrap().rules.remove(0);
        let mut counts = BurstCounts::new(&rule);
        let (mut last, caller) = (0, ("d".into(), "ann".into()));
        for at_ms in requests {
            last = last.max(at_ms);
            counts.arriving.add(Timestamp::from_ms(at_ms), Caller::clone(&caller));
        }
        let seen = [1, 50, 70].map(|later_s| {
            let seen = counts.seen(&rule, Timestamp::from_ms(last + later_s * 1_000));
            seen.first().map_or(0.0, |one| one.value)
        });
        assert_eq!(seen, expected.map(f64::from));
    }

    #[test]
    fn the_most_requests_within_the_time_are_counted_in_any_order() {
        let rule = "{ when: burst, above: 5, over: 100ms }";
        check(rule, (0..8).map(|index| 10_000 + index * 10), [8, 8, 0]);
        check(rule, (0..8).rev().map(|index| 10_000 + index * 10), [8, 8, 0]);
        check(rule, (0..80).map(|index| 10_000 + index * 20), [0, 0, 0]);
        // 30 milliseconds each, and then 6 at once.
        check(rule, (0..80).map(|one| 10_000 + one * 30).chain([20_000; 6]), [6, 6, 0]);
        // A burst, and 40 seconds later a lower one: it is known for a minute after the last one.
        check(rule, [10_000; 9].into_iter().chain([50_000; 6]), [9, 9, 0]);
    }

    #[test]
    fn a_burst_at_the_edge_of_two_slots_is_one() {
        let rule = "{ when: burst, above: 5, over: 1s }";
        check(rule, [10_950; 4].into_iter().chain([11_150; 4]), [8, 8, 0]);
        check(rule, [10_000; 4].into_iter().chain([11_100; 4]), [0, 0, 0]);
    }
}
