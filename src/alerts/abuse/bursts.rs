//! Counts the requests of a caller that arrive together: the most within any time of the length of a rule.
//!
//! The time is a sliding window in ten slots, so a count includes requests of up to a tenth of the time more. The highest count is
//! known for a minute after the last one for which the rule fires, so that people and channels see a burst of an instant.

use std::time::Duration;

use compact_str::CompactString;

use super::places::{Places, Ranked};
use super::slots::{SLOTS, SlotLength, Slots};
use super::waiting::{CallerRequests, SeenRequest};
use crate::alerts::conditions::Seen;
use crate::alerts::labels::Labels;
use crate::clock::Timestamp;
use crate::policy::AlertRule;

/// Maximum number of callers.
const CALLERS_MAX: usize = 10_000;

/// How long a burst is known.
const KNOWN: Duration = Duration::from_secs(60);

/// The bursts of each caller, for one rule.
#[derive(Debug)]
pub struct BurstCounts {
    callers: Places<Caller, Requests>,
    slots: SlotLength,
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
        Self { callers: Places::new(CALLERS_MAX), slots: SlotLength::of(rule.over) }
    }

    /// Counts the requests of a caller.
    pub fn add(&mut self, rule: &AlertRule, requests: &CallerRequests<'_>) {
        let Some(caller) = requests.caller else { return };
        let counted = |requests: &[SeenRequest]| {
            requests.iter().filter(|request| request.is_request).count() as u64
        };
        if counted(requests.requests) == 0 {
            return;
        }
        let known = self.callers.value((requests.domain.into(), caller.clone()));
        for (slot, of_slot) in self.slots.split(requests.requests) {
            if let (Some(last), count @ 1..) = (of_slot.last(), counted(of_slot)) {
                known.add(rule, (slot, count), last.at);
            }
        }
    }

    /// The highest counts, of callers for whom the rule may fire.
    pub fn seen(&mut self, rule: &AlertRule, now: Timestamp) -> Vec<Seen> {
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
        let may_fire = |(_, requests): &(&Caller, &Requests)| rule.may_fire(requests.peak as f64);
        self.callers.iter().filter(may_fire).map(one).collect()
    }

    /// Forgets callers.
    pub fn erase(&mut self, is_erased: &dyn Fn(&str) -> bool) {
        self.callers.retain(|(_, caller), _| !is_erased(caller));
    }
}

impl Requests {
    /// Counts the requests of a slot, with the time of the last one.
    fn add(&mut self, rule: &AlertRule, (slot, count): (u64, u64), at: Timestamp) {
        self.slots.add(slot, count);
        self.slots.forget(slot.saturating_sub(SLOTS));
        self.last_ms = at.as_ms();
        let count = self.slots.sum();
        if self.peak <= count || rule.fires(count as f64) {
            self.peak = self.peak.max(count);
            self.peak_ms = at.as_ms();
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
        let requests: Vec<_> = requests.map(|at_ms| SeenRequest::at(at_ms, None)).collect();
        counts.add(&rule, &CallerRequests::of(&"ann".into(), &requests));
        let last = requests.last().unwrap().at.as_ms();
        let seen = [1, 50, 70].map(|later_s| {
            let seen = counts.seen(&rule, Timestamp::from_ms(last + later_s * 1_000));
            seen.first().map_or(0.0, |one| one.value)
        });
        assert_eq!(seen, expected.map(f64::from));
    }

    #[test]
    fn the_most_requests_within_the_time_are_counted() {
        let rule = "{ when: burst, above: 5, over: 100ms }";
        check(rule, (0..8).map(|index| 10_000 + index * 10), [8, 8, 0]);
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
