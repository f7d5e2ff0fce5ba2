//! What a rule counts in the requests of callers.

use std::time::Duration;

use super::abuse::{BurstCounts, CallerRequests, DistinctCounts, ProbeCounts};
use super::conditions::Seen;
use super::denials::DenialCounts;
use crate::clock::Timestamp;
use crate::policy::{AlertFilter, AlertRule, AlertSignal};

/// The counts of one rule.
#[derive(Debug)]
pub struct RuleCounts {
    counts: Counts,
    /// What they depend on.
    of: (AlertSignal, Duration, AlertFilter),
}

#[derive(Debug)]
enum Counts {
    Denials(DenialCounts),
    Distinct(DistinctCounts),
    Bursts(BurstCounts),
    Probes(ProbeCounts),
}

impl RuleCounts {
    /// Nothing is counted yet; None if the signal of the rule is not counted in records.
    pub fn new(rule: &AlertRule) -> Option<Self> {
        let counts = match rule.signal {
            AlertSignal::Denials => Counts::Denials(DenialCounts::new(rule)),
            AlertSignal::AddressCallers
            | AlertSignal::AddressApiKeys
            | AlertSignal::CallerAddresses
            | AlertSignal::ApiKeyAddresses => Counts::Distinct(DistinctCounts::new(rule)),
            AlertSignal::Burst => Counts::Bursts(BurstCounts::new(rule)),
            AlertSignal::Probing => Counts::Probes(ProbeCounts::new(rule)),
            _ => return None,
        };
        Some(Self { counts, of: key(rule) })
    }

    /// Whether they are those of the rule as it is now.
    pub fn is_of(&self, rule: &AlertRule) -> bool {
        self.of == key(rule)
    }

    /// Counts the requests of a caller.
    pub fn add(&mut self, rule: &AlertRule, requests: &CallerRequests<'_>) {
        if rule.filter.excludes_domain(requests.domain) {
            return;
        }
        let Some(tier) = &rule.filter.tier else { return self.add_all(rule, requests) };
        let (of_tier, origins) = requests.of_tier(tier);
        let of_tier = CallerRequests { requests: &of_tier, origins: &origins, ..*requests };
        self.add_all(rule, &of_tier);
    }

    fn add_all(&mut self, rule: &AlertRule, requests: &CallerRequests<'_>) {
        match &mut self.counts {
            Counts::Denials(counts) => counts.add(requests),
            Counts::Distinct(counts) => counts.add(rule.signal, requests),
            Counts::Bursts(counts) => counts.add(rule, requests),
            Counts::Probes(counts) => counts.add(requests),
        }
    }

    /// The counts now, of subjects for which the rule may fire.
    pub fn seen(&mut self, rule: &AlertRule, now: Timestamp) -> Vec<Seen> {
        let mut seen = match &mut self.counts {
            Counts::Denials(counts) => counts.seen(rule, now),
            Counts::Distinct(counts) => counts.seen(rule, now),
            Counts::Bursts(counts) => counts.seen(rule, now),
            Counts::Probes(counts) => counts.seen(rule, now),
        };
        // If too many fire, always the same ones are followed.
        seen.sort_by(|one, other| one.labels.cmp(&other.labels));
        seen
    }

    /// Forgets callers.
    pub fn erase(&mut self, is_erased: &dyn Fn(&str) -> bool) {
        match &mut self.counts {
            Counts::Denials(counts) => counts.erase(is_erased),
            Counts::Distinct(counts) => counts.erase(is_erased),
            Counts::Bursts(counts) => counts.erase(is_erased),
            Counts::Probes(counts) => counts.erase(is_erased),
        }
    }
}

fn key(rule: &AlertRule) -> (AlertSignal, Duration, AlertFilter) {
    (rule.signal, rule.over, rule.filter.clone())
}
