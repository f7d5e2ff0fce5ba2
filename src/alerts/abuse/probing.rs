//! Counts identifiers that a caller asks for one after the other, up or down: a client that tries a range of them.
//!
//! Each new identifier of a caller is compared with its last ones. If the nearest of them is at most [`GAP`] before it, that is a
//! step up; if it is at most that far after it, a step down. So requests of several workers at once, gaps, and others in between
//! hide nothing. A client that asks for what it has in any order makes as many steps up as down, with a difference of about the
//! square root of their number. So the value is the difference, less three times that: what chance does not explain.

use std::collections::VecDeque;
use std::time::Duration;

use compact_str::CompactString;

use super::places::{Places, Ranked};
use super::slots::{SlotLength, Slots};
use super::waiting::CallerRequests;
use crate::alerts::conditions::Seen;
use crate::alerts::labels::Labels;
use crate::clock::Timestamp;
use crate::policy::AlertRule;

/// Maximum number of callers.
const CALLERS_MAX: usize = 10_000;

/// The last identifiers of a caller with which a new one is compared. One that is among them is not new: a client that reads its
/// own few again and again makes no steps.
const LAST_MAX: usize = 128;

/// The longest step.
const GAP: u64 = 16;

/// Deviations of what chance explains.
const DEVIATIONS: f64 = 3.0;

/// The steps of each caller, for one rule.
#[derive(Debug)]
pub struct ProbeCounts {
    callers: Places<Caller, Steps>,
    slots: SlotLength,
    over: Duration,
}

/// Domain and caller.
type Caller = (CompactString, CompactString);

/// The steps of one caller.
#[derive(Debug, Default)]
struct Steps {
    /// Its last identifiers, oldest first, and the same by their number.
    last: VecDeque<u64>,
    sorted: Vec<u64>,
    up: Slots,
    down: Slots,
    last_ms: u64,
}

impl Ranked for Steps {
    fn rank(&self) -> (u64, u64) {
        (self.up.sum().abs_diff(self.down.sum()), self.last_ms)
    }
}

impl ProbeCounts {
    /// Nothing is counted yet.
    pub fn new(rule: &AlertRule) -> Self {
        let (callers, slots) = (Places::new(CALLERS_MAX), SlotLength::of(rule.over));
        Self { callers, slots, over: rule.over }
    }

    /// Counts the identifiers that a caller asks for.
    pub fn add(&mut self, requests: &CallerRequests<'_>) {
        let Some(caller) = requests.caller else { return };
        if requests.requests.iter().all(|request| request.identifier.is_none()) {
            return;
        }
        let steps = self.callers.value((requests.domain.into(), caller.clone()));
        for (slot, of_slot) in self.slots.split(requests.requests) {
            for request in of_slot {
                if let Some(identifier) = request.identifier {
                    steps.last_ms = request.at.as_ms();
                    steps.add(slot, identifier);
                }
            }
        }
    }

    /// The steps that chance does not explain, of callers for whom the rule may fire.
    pub fn seen(&mut self, rule: &AlertRule, now: Timestamp) -> Vec<Seen> {
        let oldest = self.slots.oldest(now);
        let known_from = now.before(self.over).as_ms();
        self.callers.retain(|_, steps| {
            steps.up.forget(oldest);
            steps.down.forget(oldest);
            known_from <= steps.last_ms
        });
        let one = |((domain, caller), steps): (&Caller, &Steps)| Seen {
            labels: Labels::new().with("domain", Some(domain)).with("caller", Some(caller)),
            value: steps.value(),
        };
        let may_fire = |(_, steps): &(&Caller, &Steps)| rule.may_fire(steps.value());
        self.callers.iter().filter(may_fire).map(one).collect()
    }

    /// Forgets callers.
    pub fn erase(&mut self, is_erased: &dyn Fn(&str) -> bool) {
        self.callers.retain(|(_, caller), _| !is_erased(caller));
    }
}

impl Steps {
    /// Counts the step to an identifier.
    fn add(&mut self, slot: u64, identifier: u64) {
        let Err(place) = self.sorted.binary_search(&identifier) else { return };
        // After the highest number comes the lowest one.
        let before = self.sorted[..place].last().or(self.sorted.last());
        let after = self.sorted.get(place).or(self.sorted.first());
        let below = before.map_or(u64::MAX, |before| identifier.wrapping_sub(*before));
        let above = after.map_or(u64::MAX, |after| after.wrapping_sub(identifier));
        self.sorted.insert(place, identifier);
        self.last.push_back(identifier);
        if LAST_MAX < self.last.len() {
            let oldest = self.last.pop_front();
            let place = oldest.and_then(|oldest| self.sorted.binary_search(&oldest).ok());
            place.map(|place| self.sorted.remove(place));
        }
        if below < above && below <= GAP {
            self.up.add(slot, 1);
        } else if above < below && above <= GAP {
            self.down.add(slot, 1);
        }
    }

    fn value(&self) -> f64 {
        let (up, down) = (self.up.sum(), self.down.sum());
        let chance = DEVIATIONS * ((up + down) as f64).sqrt();
        (up.abs_diff(down) as f64 - chance).max(0.0).floor()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alerts::abuse::SeenRequest;
    use crate::alerts::abuse::random::Random;
    use crate::policy::{Source, compile_alerts};

    /// Callers of each kind of traffic that are measured.
    const CALLERS: u64 = 500;

    /// A new identifier of a caller, by its number in the traffic.
    type Next = fn(&mut Random, u64) -> u64;

    /// Traffic without a walk: the row of the page, and the identifiers.
    const USUAL: [(&str, Next); 5] = [
        ("at random from 50 identifiers", |random, _| random.below(50)),
        ("at random from 1,000 identifiers", |random, _| random.below(1_000)),
        ("at random from 100,000 identifiers", |random, _| random.below(100_000)),
        ("its own 60 in order, again and again", |_, index| index % 60),
        ("pages 1 to 20 in order, among others", |random, index| match index % 2 {
            0 => index / 2 % 20,
            _ => 1_000 + random.below(1_000),
        }),
    ];

    /// Walks.
    const WALKS: [(&str, Next); 5] = [
        ("one after the other", |_, index| index),
        ("downwards, with gaps of 1 to 5", |random, index| 1_000_000 - index * 3 - random.below(3)),
        ("four ranges at once", |_, index| index % 4 * 10_000 + index / 4),
        ("every second one another of 1,000", |random, index| match index % 2 {
            0 => 5_000 + index / 2,
            _ => random.below(1_000),
        }),
        ("the same, by 8 workers in any order", |random, index| {
            // Each of 8 in a row, from another start.
            index / 8 * 8 + (index + random.below(3)) % 8
        }),
    ];

    fn counts() -> ProbeCounts {
        let text = "alerts: { a: { when: probing, above: 50 } }".to_owned();
        let source = Source { path: "alerts.yaml".to_owned(), text };
        ProbeCounts::new(&compile_alerts(&[source]).unwrap().rules[0])
    }

    /// The values after which a rule fires.
    const ABOVE: [f64; 2] = [20.0, 50.0];

    /// How many identifiers a caller asks for, one in a second, until its value is above each; None: not within 10 minutes.
    fn until(next: Next, seed: u64) -> [Option<u64>; 2] {
        let (mut counts, mut random) = (counts(), Random(seed));
        let (caller, mut found): (Caller, _) = (("d".into(), "ann".into()), [None; 2]);
        for index in 0..600 {
            let request = SeenRequest::at(index * 1_000, Some(next(&mut random, index)));
            counts.add(&CallerRequests::of(&caller.1, &[request]));
            let value = counts.callers.value(caller.clone()).value();
            for (found, above) in found.iter_mut().zip(ABOVE) {
                *found = found.or((above < value).then_some(index + 1));
            }
        }
        found
    }

    #[test]
    fn the_table_of_the_page_is_what_was_measured() {
        let page = include_str!("../../../config/alerts.md");
        let mut rows = Vec::new();
        for (what, next) in USUAL {
            let found: Vec<_> = (0..CALLERS).map(|seed| until(next, seed)).collect();
            let [some, more] = [0, 1].map(|above| {
                let alarms = found.iter().filter(|found| found[above].is_some()).count();
                alarms as f64 * 100.0 / CALLERS as f64
            });
            rows.push(format!("| {what} | {some:.1} % | {more:.1} % |"));
        }
        for (what, next) in WALKS {
            let found: Vec<_> = (0..99).map(|seed| until(next, seed)).collect();
            let [some, more] = [0, 1].map(|above| {
                let mut counts: Vec<_> =
                    found.iter().map(|found| found[above].unwrap_or(u64::MAX)).collect();
                counts.sort_unstable();
                counts[49]
            });
            rows.push(format!("| {what} | after {some} | after {more} |"));
        }
        for row in &rows {
            assert!(page.contains(row), "config/alerts.md does not have:\n{}", rows.join("\n"));
        }
    }

    #[test]
    fn a_flood_of_callers_is_within_the_bound_and_hides_no_walk() {
        let mut counts = counts();
        for index in 0..100_000 {
            let mut ask = |caller: &str, identifier| {
                let request = SeenRequest::at(index, Some(identifier));
                counts.add(&CallerRequests::of(&caller.into(), &[request]));
            };
            ask(&format!("user {index}"), index);
            if index % 1_000 == 0 {
                ask("walker", 7_000 + index / 1_000);
            }
        }
        assert!(counts.callers.iter().count() <= CALLERS_MAX);
        let value = counts.callers.value(("d".into(), "walker".into())).value();
        assert!(50.0 < value, "{value}");
    }
}
