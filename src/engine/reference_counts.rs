//! Counts verdicts under the names of envoyproxy/ratelimit, by its rules.
//!
//! There, every descriptor is counted at its rule, whether or not another one refuses. Hits of a request that exceeds a
//! limit in part are divided: those below the near limit ratio, those above it, and those above the limit. A rule has one limit
//! there; with several, the one that had least left counts.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::limit::Hits;
use crate::metrics::{ReferenceMetrics, ReferenceSeries, StatCounts, StatKey};
use crate::policy::{Domain, Rule, RuleValue};

use super::plan::DescriptorMatch;
use super::request::{Descriptor, Request};
use super::verdict::{ChargeDecision, Code, Verdict};

/// In the place of values that are not among the busiest.
const OTHER: &str = "other";

/// The counters of a domain's rules.
#[derive(Debug)]
pub struct ReferenceCounts {
    /// By the limit's index; the last one is for limits that requests bring along.
    rules: Vec<Arc<RuleCounts>>,
    near_limit_ratio: f64,
}

/// The counters of a rule.
#[derive(Debug)]
struct RuleCounts {
    /// Its key with `other` for the values of requests.
    key: StatKey,
    steps: Steps,
    series: Arc<ReferenceSeries>,
}

/// The steps of a rule's key.
#[derive(Debug)]
enum Steps {
    /// Those of the rules on its path.
    OfRules(Box<[Step]>),
    /// All entries of the request.
    OfRequest,
}

/// The step of one rule.
#[derive(Clone, Debug)]
struct Step {
    key: String,
    value: Option<String>,
    /// It matches several values, which have their own counters.
    is_open: bool,
    /// The value of the request is in the key.
    by_value: bool,
}

impl Step {
    fn of(rule: &Rule) -> Self {
        let key = || rule.key.clone();
        let (key, value, is_open) = match &rule.value {
            RuleValue::Exact(value) => (key(), Some(value.clone()), false),
            RuleValue::Pattern { pattern, shared } => {
                (key(), Some(pattern.as_str().to_owned()), !shared)
            }
            RuleValue::Joined { pattern, shared } => (pattern.as_str().to_owned(), None, !shared),
            RuleValue::Among { matcher, shared } => {
                (key(), Some(matcher.as_str().to_owned()), !shared)
            }
            RuleValue::Any => (key(), None, true),
        };
        Self { key, value, is_open, by_value: is_open && rule.metric_values.own }
    }
}

impl RuleCounts {
    fn new(domain: &Domain, steps: &[Step], metrics: &ReferenceMetrics) -> Self {
        let mut key = StatKey::of_domain(&domain.name);
        for step in steps {
            let value = if step.by_value { Some(OTHER) } else { step.value.as_deref() };
            key.step(&step.key, value);
        }
        let by_value = steps.iter().any(|step| step.by_value);
        let series = metrics.series(key.clone(), by_value);
        Self { key, steps: Steps::OfRules(steps.into()), series }
    }

    fn of_brought(domain: &Domain, metrics: &ReferenceMetrics) -> Self {
        let mut key = StatKey::of_domain(&domain.name);
        key.step(OTHER, None);
        let series = metrics.series(key.clone(), true);
        Self { key, steps: Steps::OfRequest, series }
    }

    /// Completes the key of a descriptor.
    fn write(&self, key: &mut StatKey, domain: &Domain, descriptor: &Descriptor<'_>) {
        key.start(&domain.name);
        let path = domain.path(&descriptor.entries);
        match &self.steps {
            Steps::OfRequest => path.iter().for_each(|(name, value)| {
                key.step(name, Some(*value).filter(|value| !value.is_empty()));
            }),
            Steps::OfRules(steps) => {
                for (step, (name, value)) in steps.iter().zip(&*path) {
                    match step.by_value {
                        true => key.step(name, Some(value)),
                        false => key.step(&step.key, step.value.as_deref()),
                    }
                }
            }
        }
    }
}

impl ReferenceCounts {
    /// The counters of a domain's rules. None unless they are enabled.
    pub fn new(domain: &Domain, near_limit_ratio: f64, metrics: &ReferenceMetrics) -> Option<Self> {
        if !metrics.is_enabled() {
            return None;
        }
        let brought = Arc::new(RuleCounts::of_brought(domain, metrics));
        let mut rules = vec![brought; domain.limit_count() + 1];
        let mut path = Vec::new();
        each(domain.rules(), &mut path, &mut |rule, path| {
            let mut steps = path.to_vec();
            if rule.metric_values.all {
                steps.iter_mut().for_each(|step| step.by_value = step.is_open);
            }
            if !rule.limits.is_empty() {
                let counts = Arc::new(RuleCounts::new(domain, &steps, metrics));
                rule.limits.iter().for_each(|limit| rules[limit.index] = counts.clone());
            }
        });
        Some(Self { rules, near_limit_ratio })
    }

    /// Adds the keys of its counters, and whether each contains values.
    pub fn keys(&self, keys: &mut BTreeSet<(StatKey, bool)>) {
        let is_by_value = |series: &ReferenceSeries| matches!(series, ReferenceSeries::ByValue(_));
        keys.extend(self.rules.iter().map(|rule| (rule.key.clone(), is_by_value(&rule.series))));
    }

    /// Counts a verdict.
    pub fn count(&self, verdict: &Verdict<'_>, request: &Request<'_>) {
        let Some(domain) = verdict.policy else { return };
        // A charge for several descriptors has the hits of all: it counts with the first.
        let mut counted = 0;
        for (part, descriptor) in verdict.descriptors.iter().zip(request.descriptors()) {
            let new = part.charges.iter().copied().filter(|charge| counted <= *charge);
            let mut last: Option<(&Arc<RuleCounts>, StatCounts)> = None;
            for index in new {
                let Some((rule, counts)) = self.counts(verdict, index) else { continue };
                last = Some(match last {
                    Some((same, sums)) if Arc::ptr_eq(same, rule) => (same, worse(sums, counts)),
                    Some((other, sums)) => {
                        other.series.add(sums, |key| other.write(key, domain, descriptor));
                        (rule, counts)
                    }
                    None => (rule, counts),
                });
            }
            if let Some((rule, sums)) = last {
                rule.series.add(sums, |key| rule.write(key, domain, descriptor));
            }
            counted = counted.max(end(part));
        }
    }

    /// The counts of a charge, and its rule.
    fn counts(
        &self,
        verdict: &Verdict<'_>,
        index: usize,
    ) -> Option<(&Arc<RuleCounts>, StatCounts)> {
        let charge = verdict.charges().get(index)?;
        let rule = self.rules.get(charge.limit.index)?;
        let Hits::Spend(hits) = verdict.hits_of(index) else { return None };
        let total = StatCounts { total_hits: hits, ..StatCounts::default() };
        let counts = match () {
            () if charge.is_failed() => total,
            () if charge.is_over() => StatCounts { total_hits: hits, ..self.over(charge, hits) },
            () => {
                let spent = verdict.code() == Code::Ok || charge.decision.counted;
                StatCounts { total_hits: hits, ..self.within(charge, hits, spent) }
            }
        };
        let near_limit = if verdict.fallback { 0 } else { counts.near_limit };
        Some((rule, StatCounts { near_limit, ..counts }))
    }

    /// The number of hits above which a limit is near.
    fn near(&self, limit: u64) -> u64 {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a part of it")]
        let near = (limit as f64 * self.near_limit_ratio).floor() as u64;
        near
    }

    /// Hits of which the limit does not have all.
    fn over(&self, charge: &ChargeDecision<'_>, hits: u64) -> StatCounts {
        let limit = charge.quota;
        let before = limit.saturating_sub(charge.remaining());
        let left = limit.saturating_sub(before);
        // Hits that would fit are refused for another reason, such as reserved capacity.
        let over_limit = if left < hits { hits - left } else { hits };
        let near_limit = match over_limit == hits {
            true => 0,
            false => limit - self.near(limit).max(before).min(limit),
        };
        let shadow_mode = if charge.is_shadow() { over_limit } else { 0 };
        StatCounts { over_limit, near_limit, shadow_mode, ..StatCounts::default() }
    }

    /// Hits that the limit has; `spent`: they are not among the remaining ones any more.
    fn within(&self, charge: &ChargeDecision<'_>, hits: u64, spent: bool) -> StatCounts {
        let used = charge.quota.saturating_sub(charge.remaining());
        let after = if spent { used } else { used.saturating_add(hits) };
        let near_limit = after.saturating_sub(self.near(charge.quota)).min(hits);
        StatCounts { near_limit, within_limit: hits, ..StatCounts::default() }
    }
}

/// Visits all rules, each with the steps of its path.
fn each<'p>(rules: &'p [Rule], path: &mut Vec<Step>, visit: &mut impl FnMut(&'p Rule, &[Step])) {
    for rule in rules {
        path.push(Step::of(rule));
        visit(rule, path);
        each(rule.rules(), path, visit);
        path.pop();
    }
}

/// The index after a descriptor's last charge.
fn end(part: &DescriptorMatch<'_>) -> usize {
    part.charges.iter().max().map_or(0, |last| last + 1)
}

/// The counts of a rule of which two limits have these.
fn worse(one: StatCounts, other: StatCounts) -> StatCounts {
    let over_limit = one.over_limit.max(other.over_limit);
    StatCounts {
        total_hits: one.total_hits.max(other.total_hits),
        over_limit,
        near_limit: one.near_limit.max(other.near_limit),
        within_limit: if over_limit == 0 { one.within_limit.max(other.within_limit) } else { 0 },
        shadow_mode: one.shadow_mode.max(other.shadow_mode),
    }
}
