//! Counts different values of each subject over a time: callers of an address, addresses of a caller.
//!
//! A value is a hash of 64 bits, and has the slot of time in which it was last seen, so it counts for a tenth of the time more at
//! most. The number of subjects, of values of one, and of all values is bounded.

use std::collections::HashMap;
use std::hash::BuildHasher;

use compact_str::CompactString;
use foldhash::fast::RandomState;
use ipnet::IpNet;

use super::places::{Places, Ranked};
use super::slots::SlotLength;
use super::waiting::{CallerRequests, Origin};
use crate::alerts::conditions::Seen;
use crate::alerts::labels::Labels;
use crate::clock::Timestamp;
use crate::policy::{AlertRule, AlertSignal, DISTINCT_MAX};

/// Maximum number of subjects of a rule.
const SUBJECTS_MAX: usize = 10_000;

/// Maximum number of values of all subjects of a rule.
const VALUES_MAX: usize = 100_000;

/// Different values by subject, for one rule.
#[derive(Debug)]
pub struct DistinctCounts {
    subjects: Places<Subject, Values>,
    /// Values of all subjects, at least.
    values: usize,
    hasher: RandomState,
    slots: SlotLength,
    /// The last slot that is forgotten.
    oldest: u64,
}

/// Whose values are counted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Subject {
    domain: CompactString,
    name: Name,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Name {
    Caller(CompactString),
    ApiKey(CompactString),
    Network(IpNet),
}

/// The values of a subject, each with the slot in which it was last seen.
#[derive(Debug, Default)]
struct Values {
    seen: HashMap<u64, u64, RandomState>,
    last: u64,
}

impl Ranked for Values {
    fn rank(&self) -> (u64, u64) {
        (self.seen.len() as u64, self.last)
    }
}

impl DistinctCounts {
    /// Nothing is counted yet.
    pub fn new(rule: &AlertRule) -> Self {
        Self {
            subjects: Places::new(SUBJECTS_MAX),
            values: 0,
            hasher: RandomState::default(),
            slots: SlotLength::of(rule.over),
            oldest: 0,
        }
    }

    /// Counts the values of a caller's requests.
    pub fn add(&mut self, signal: AlertSignal, requests: &CallerRequests<'_>) {
        for origin in requests.origins {
            if let Some((name, value)) = self.pair(signal, requests.caller, origin) {
                self.count(Subject { domain: requests.domain.into(), name }, value, origin.at);
            }
        }
    }

    /// The counts now, of subjects for which the rule may fire.
    pub fn seen(&mut self, rule: &AlertRule, now: Timestamp) -> Vec<Seen> {
        let oldest = self.slots.oldest(now);
        // A clock may be set back.
        if self.oldest != oldest {
            self.forget(oldest);
        }
        let one = |(subject, values): (&Subject, &Values)| Seen {
            labels: subject.labels(),
            value: values.seen.len() as f64,
        };
        let may_fire = |(_, values): &(&Subject, &Values)| rule.may_fire(values.seen.len() as f64);
        self.subjects.iter().filter(may_fire).map(one).collect()
    }

    /// Forgets callers.
    pub fn erase(&mut self, is_erased: &dyn Fn(&str) -> bool) {
        self.subjects.retain(|subject, _| match &subject.name {
            Name::Caller(caller) => !is_erased(caller),
            Name::ApiKey(_) | Name::Network(_) => true,
        });
    }

    /// Forgets values that were last seen up to this slot.
    fn forget(&mut self, oldest: u64) {
        self.oldest = oldest;
        self.values = 0;
        self.subjects.retain(|_, values| {
            values.seen.retain(|_, slot| oldest < *slot);
            self.values += values.seen.len();
            !values.seen.is_empty()
        });
    }

    fn count(&mut self, subject: Subject, value: u64, at: Timestamp) {
        if VALUES_MAX <= self.values {
            self.subjects.make_place();
            self.values = self.subjects.iter().map(|(_, values)| values.seen.len()).sum();
        }
        let slot = self.slots.slot(at);
        let values = self.subjects.value(subject);
        values.last = values.last.max(slot);
        let is_full = DISTINCT_MAX <= values.seen.len();
        if let Some(seen) = values.seen.get_mut(&value) {
            *seen = slot.max(*seen);
        } else if !is_full {
            values.seen.insert(value, slot);
            self.values += 1;
        }
    }

    /// Whose values the signal counts, and the value.
    fn pair(
        &self,
        signal: AlertSignal,
        caller: Option<&CompactString>,
        Origin { network, api_key, .. }: &Origin,
    ) -> Option<(Name, u64)> {
        let hash = |value: &CompactString| self.hasher.hash_one(value);
        let address = || self.hasher.hash_one(network);
        Some(match signal {
            AlertSignal::AddressCallers => (Name::Network(*network), hash(caller?)),
            AlertSignal::AddressApiKeys => (Name::Network(*network), hash(api_key.as_ref()?)),
            AlertSignal::CallerAddresses => (Name::Caller(caller?.clone()), address()),
            _ => (Name::ApiKey(api_key.clone()?), address()),
        })
    }
}

impl Subject {
    fn labels(&self) -> Labels {
        let labels = Labels::new().with("domain", Some(&self.domain));
        match &self.name {
            Name::Caller(caller) => labels.with("caller", Some(caller)),
            Name::ApiKey(id) => labels.with("api_key", Some(id)),
            Name::Network(network) => {
                let shown = network.to_string();
                // A single address is shown as one.
                labels.with("address", Some(shown.strip_suffix("/32").unwrap_or(&shown)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::time::Duration;

    use super::*;
    use crate::engine::testing::START;
    use crate::policy::{Source, compile_alerts};

    fn counts(rule: &str) -> (AlertRule, DistinctCounts) {
        let text = format!("alerts:\n  a: {rule}");
        let source = Source { path: "alerts.yaml".to_owned(), text };
        let rule = compile_alerts(&[source]).unwrap().rules.remove(0);
        let counts = DistinctCounts::new(&rule);
        (rule, counts)
    }

    /// So many milliseconds after the start.
    fn at(ms: u64) -> Timestamp {
        START.after(Duration::from_millis(ms))
    }

    fn address(number: u32) -> IpNet {
        IpNet::from(IpAddr::V4(Ipv4Addr::from(number)))
    }

    /// The value of each subject now.
    fn seen(counts: &mut DistinctCounts, rule: &AlertRule, now_ms: u64) -> Vec<(String, f64)> {
        let seen = counts.seen(rule, at(now_ms)).into_iter();
        let labels = ["caller", "address", "api_key"];
        let about =
            |one: &Seen| labels.iter().find_map(|name| one.labels.get(name).map(str::to_owned));
        seen.map(|one| (about(&one).unwrap(), one.value)).collect()
    }

    #[test]
    fn different_values_are_counted_once_and_forgotten_after_the_time() {
        let (rule, mut counts) = counts("{ when: address_callers, above: 2, over: 10s }");
        let subject = || Subject { domain: "d".into(), name: Name::Network(address(7)) };
        for (at_ms, value) in [(0, 1), (0, 1), (1_000, 2), (6_000, 3)] {
            counts.count(subject(), value, at(at_ms));
        }
        assert_eq!(seen(&mut counts, &rule, 6_000), [("0.0.0.7".to_owned(), 3.0)]);
        counts.count(subject(), 1, at(9_000));
        assert_eq!(seen(&mut counts, &rule, 10_900), [("0.0.0.7".to_owned(), 3.0)]);
        assert_eq!(seen(&mut counts, &rule, 12_000), [], "2 of them are left");
        assert_eq!(seen(&mut counts, &rule, 60_000), []);
        assert_eq!((counts.values, counts.subjects.iter().count()), (0, 0));
    }

    #[test]
    fn values_are_forgotten_after_a_clock_was_set_back() {
        let (rule, mut counts) = counts("{ when: address_callers, above: 2, over: 10s }");
        assert_eq!(seen(&mut counts, &rule, 3_600_000), []);
        for value in 0..3 {
            let subject = Subject { domain: "d".into(), name: Name::Network(address(7)) };
            counts.count(subject, value, at(1_000));
        }
        assert_eq!(seen(&mut counts, &rule, 2_000), [("0.0.0.7".to_owned(), 3.0)]);
        assert_eq!(seen(&mut counts, &rule, 20_000), []);
    }

    #[test]
    fn a_flood_is_within_the_bounds_and_hides_nothing() {
        let (rule, mut counts) = counts("{ when: address_callers, above: 20 }");
        let network = |number| Subject { domain: "d".into(), name: Name::Network(address(number)) };
        for number in 0..100_000_u32 {
            let seen_at = at(u64::from(number));
            counts.count(network(number + 1_000), u64::from(number), seen_at);
            if number % 2_000 == 0 {
                counts.count(network(7), u64::from(number), seen_at);
            }
        }
        // One address with 50,000 callers, and 200 addresses with 250 each.
        for number in 0..50_000_u32 {
            counts.count(network(8), u64::from(number), at(100_000));
            counts.count(network(9 + number % 200), number.into(), at(100_000));
        }
        assert!(counts.subjects.iter().count() <= SUBJECTS_MAX);
        let seen = seen(&mut counts, &rule, 100_000);
        assert!(seen.contains(&("0.0.0.8".to_owned(), DISTINCT_MAX as f64)), "{}", seen.len());
        assert!(seen.len() == 202 && seen.iter().any(|(about, _)| about == "0.0.0.7"));
    }

    #[test]
    fn the_values_of_all_subjects_are_bounded() {
        let (_, mut counts) = counts("{ when: address_callers, above: 20 }");
        for number in 0..400_000_u32 {
            let name = Name::Network(address(number % 500));
            let subject = Subject { domain: "d".into(), name };
            counts.count(subject, u64::from(number), at(0));
            assert!(counts.values <= VALUES_MAX);
        }
        let values: usize = counts.subjects.iter().map(|(_, values)| values.seen.len()).sum();
        assert!(50_000 < values && values <= VALUES_MAX, "{values}");
    }

    #[test]
    fn an_erased_caller_is_forgotten() {
        let (rule, mut counts) = counts("{ when: caller_addresses, above: 0 }");
        for name in ["ann", "bob"] {
            let subject = Subject { domain: "d".into(), name: Name::Caller(name.into()) };
            counts.count(subject, 1, at(0));
        }
        counts.erase(&|name| name == "ann");
        assert_eq!(seen(&mut counts, &rule, 0), [("bob".to_owned(), 1.0)]);
    }
}
