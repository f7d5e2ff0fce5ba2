//! Which limits start a new count when one policy set takes the place of another.
//!
//! A count is kept under the path of values that a request has and the tag of its limit. So rules are compared by
//! their paths, and the limits of a rule by their tags. A limit that has no counterpart is new, and of no concern
//! here; one that stands where another limit has gone has taken its place without its count.

use std::fmt;

use super::level::Level;
use super::rule::Domain;
use super::rule::Rule;
use super::rule::RuleLimit;
use super::rule::RuleValue;
use super::set::PolicySet;

/// A limit that starts a new count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restart {
    pub domain: String,
    /// The rule's path.
    pub rule: String,
    /// What metrics and answers call the limit.
    pub limit: String,
    /// What has changed, as a clause.
    pub reason: String,
}

impl fmt::Display for Restart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { domain, rule, limit, reason } = self;
        write!(f, "domain `{domain}`, rule `{rule}`: `{limit}` starts a new count: {reason}")
    }
}

/// The limits of `new` that start a new count where `old` was in force, in the order of domains and rules.
pub fn restarts(old: &PolicySet, new: &PolicySet) -> Vec<Restart> {
    let mut found = Vec::new();
    for domain in new.domains() {
        if let Some(before) = old.domain(&domain.name) {
            let mut changes = Changes { domain, found: &mut found };
            changes.level(&before.rules, &domain.rules, None);
        }
    }
    found
}

struct Changes<'a> {
    domain: &'a Domain,
    found: &'a mut Vec<Restart>,
}

impl Changes<'_> {
    /// Compares the rules of a level; `moved` says why the paths above have other counters than before.
    fn level(&mut self, old: &Level, new: &Level, moved: Option<&str>) {
        for rule in &new.rules {
            if let Some(before) = counterpart(old, new, rule) {
                let other = other_counters(before, rule);
                let moved = moved.or(other.as_deref());
                self.rule(before, rule, moved);
                self.level(&before.below, &rule.below, moved);
            }
        }
    }

    fn rule(&mut self, old: &Rule, new: &Rule, moved: Option<&str>) {
        let is_kept = |limit: &RuleLimit, others: &Rule| {
            others.limits.iter().any(|other| other.limit.tag() == limit.limit.tag())
        };
        let mut gone: Vec<&RuleLimit> = old.limits.iter().map(|limit| &**limit).collect();
        gone.retain(|limit| moved.is_some() || !is_kept(limit, new));
        let counted = new.limits.iter().filter(|limit| moved.is_some() || !is_kept(limit, old));
        for limit in counted {
            let Some(before) = nearest(&gone, limit) else { continue };
            let reason = moved.map_or_else(|| difference(before, limit), str::to_owned);
            self.found.push(Restart {
                domain: self.domain.name.clone(),
                rule: new.path.clone(),
                limit: limit.label.to_string(),
                reason,
            });
        }
    }
}

/// The rule that the requests of `rule` met before: the one for the same entry, or else the one that took its
/// value, or the only one of its key that has gone.
fn counterpart<'a>(old: &'a Level, new: &Level, rule: &Rule) -> Option<&'a Rule> {
    let same = |other: &&Rule| other.key == rule.key && text(&other.value) == text(&rule.value);
    if let Some(found) = old.rules.iter().find(same) {
        return Some(found);
    }
    if let RuleValue::Exact(value) = &rule.value {
        return old.find(&rule.key, value);
    }
    let is_gone = |other: &&Rule| {
        let mut rules = new.rules.iter();
        !rules.any(|rule| rule.key == other.key && text(&rule.value) == text(&other.value))
    };
    let mut gone = old.rules.iter().filter(|other| other.key == rule.key).filter(is_gone);
    let first = gone.next().filter(|other| !matches!(other.value, RuleValue::Exact(_)));
    first.filter(|_| gone.next().is_none())
}

fn text(value: &RuleValue) -> Option<(bool, &str)> {
    match value {
        RuleValue::Exact(value) => Some((false, value)),
        RuleValue::Pattern { pattern, .. } | RuleValue::Joined { pattern, .. } => {
            Some((true, pattern.as_str()))
        }
        RuleValue::Any => None,
    }
}

/// Why the values of a rule have other counters than before.
fn other_counters(old: &Rule, new: &Rule) -> Option<String> {
    match (old.shared_pattern(), new.shared_pattern()) {
        (None, None) => None,
        (Some(before), Some(now)) if before == now => None,
        (None, Some(_)) => Some("its values share one counter now".to_owned()),
        (Some(_), None) => Some("its values share no counter any more".to_owned()),
        (Some(before), Some(_)) => {
            Some(format!("its values shared the counter of `{}`", before.as_str()))
        }
    }
}

/// The limit whose place another one has most likely taken.
fn nearest<'a>(gone: &[&'a RuleLimit], limit: &RuleLimit) -> Option<&'a RuleLimit> {
    let named = |other: &&&RuleLimit| !limit.name.is_empty() && other.name == limit.name;
    let timed = |other: &&&RuleLimit| other.window == limit.window;
    let found = gone.iter().find(named).or_else(|| gone.iter().find(timed));
    found.or_else(|| gone.first()).copied()
}

/// What is different between two limits that makes their counters two.
fn difference(old: &RuleLimit, new: &RuleLimit) -> String {
    let mut parts = Vec::new();
    let (before, now) = (old.limit.algorithm().to_string(), new.limit.algorithm().to_string());
    if before != now {
        parts.push(format!("its algorithm was `{before}`"));
    }
    if window(old) != window(new) {
        parts.push(format!("its window was `{}`", window(old)));
    }
    let cost = |limit: &RuleLimit| limit.cost.as_ref().map(|cost| cost.name().to_owned());
    if old.name != new.name {
        parts.push(match &*old.name {
            "" => "it had no name".to_owned(),
            name => format!("its name was `{name}`"),
        });
    } else if new.name.is_empty() && cost(old) != cost(new) {
        parts.push(match cost(old) {
            None => "it counted the requests' own hits".to_owned(),
            Some(table) => format!("its cost was `{table}`"),
        });
    }
    if old.currency != new.currency {
        parts.push(match &old.currency {
            None => "it counted hits".to_owned(),
            Some(currency) => format!("it counted {currency}"),
        });
    }
    if parts.is_empty() {
        // Only `rate_limit` has a name that doesn't count.
        parts.push("`rate_limit` is counted without its name, `limits` by it".to_owned());
    }
    parts.join(", ")
}

fn window(limit: &RuleLimit) -> String {
    let shown = limit.limit.to_string();
    shown.split_once('/').map_or("", |(_, window)| window).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::CompileOptions;
    use crate::policy::Source;
    use crate::policy::compile;

    fn set(descriptors: &str) -> PolicySet {
        let costs = "costs: {tokens: [{hits: 2}], words: [{hits: 3}], prices: [{hits: 0.35 EUR}]}";
        let tiers = "caller: {key: u}\ntiers: [free, paid]";
        let text = format!("domain: d\n{costs}\n{tiers}\ndescriptors: {descriptors}");
        let source = Source { path: "a.yaml".to_owned(), text };
        compile(&[source], CompileOptions::default()).unwrap()
    }

    /// What starts anew, as `limit: reason`.
    #[track_caller]
    fn check(old: &str, new: &str, expected: &[&str]) {
        let found = restarts(&set(old), &set(new));
        let told: Vec<_> =
            found.iter().map(|one| format!("{} {}: {}", one.rule, one.limit, one.reason)).collect();
        assert_eq!(told, expected, "{old} -> {new}");
    }

    /// The same for the limits of one rule.
    #[track_caller]
    fn check_limits(old: &str, new: &str, expected: &[&str]) {
        let rule = |limits| format!("[{{key: u, {limits}}}]");
        check(&rule(old), &rule(new), expected);
    }

    #[test]
    fn edits_that_keep_every_count() {
        for (old, new) in [
            ("limits: [10/minute]", "limits: [{name: x, rate: 5/minute, mode: shadow}, 10/minute]"),
            (
                "limits: [{name: a, rate: 10/day}, {name: b, rate: 9/day, cost: tokens}]",
                "limits: [{name: b, rate: 8/day, cost: words}, {name: a, rate: 11/day}]",
            ),
            ("limits: [10/day]", "limits: [{rate: 10/day, by_tier: {paid: 20/day}}]"),
            ("limits: [{by_tier: {free: 1/day, paid: none}}]", "limits: [7/24h]"),
            ("limits: [10/day]", "limits: [{rate: 10/day, overdraft: allow, lease: auto}]"),
            ("limits: [10/day]", "rate_limit: {unit: day, requests_per_unit: 3}"),
            (
                "rate_limit: {unit: day, requests_per_unit: 3}",
                "rate_limit: {unit: day, requests_per_unit: 4, name: x}",
            ),
            ("limits: [10/day]", "limits: [10/day, 5/hour], cascade: true"),
            ("limits: [10/day, 5/hour]", "limits: [5/hour]"),
        ] {
            check_limits(old, new, &[]);
        }
    }

    #[test]
    fn edits_that_can_not_keep_a_count_are_told() {
        check_limits(
            "limits: [10/day]",
            "limits: [10/hour]",
            &["u u 10/hour: its window was `day`"],
        );
        check_limits(
            "limits: [10/day]",
            "limits: [{name: x, rate: 10/day, algorithm: fixed_window}]",
            &["u x: its algorithm was `sliding_window`, it had no name"],
        );
        check_limits(
            "limits: [{rate: 10/day, cost: tokens}]",
            "limits: [{rate: 10/day, cost: words}]",
            &["u u 10/day: its cost was `tokens`"],
        );
        check_limits(
            "limits: [10/day]",
            "limits: [{rate: 10/day, cost: words}]",
            &["u u 10/day: it counted the requests' own hits"],
        );
        check_limits(
            "rate_limit: {unit: day, requests_per_unit: 3, name: x}",
            "limits: [{name: x, rate: 3/day}]",
            &["u x: `rate_limit` is counted without its name, `limits` by it"],
        );
    }

    #[test]
    fn another_unit_of_what_is_counted_is_told() {
        check_limits(
            "limits: [{name: spend, rate: 1000/day}]",
            "limits: [{name: spend, rate: 10 EUR/day}]",
            &["u spend: it counted hits"],
        );
        check_limits(
            "limits: [10 EUR/day]",
            "limits: [10 USD/day]",
            &["u u 1000/day: it counted EUR"],
        );
        check_limits(
            "limits: [{name: spend, rate: 10/day, cost: prices}]",
            "limits: [{name: spend, rate: 10/day, cost: tokens}]",
            &["u spend: it counted EUR"],
        );
        check_limits(
            "limits: [{name: x, rate: 10 EUR/day}]",
            "limits: [{name: x, rate: 9 EUR/day}]",
            &[],
        );
        check_limits(
            "limits: [{name: x, rate: 10 EUR/day}]",
            "limits: [{name: x, rate: 999/day, cost: prices}]",
            &[],
        );
    }

    #[test]
    fn edits_of_rules_are_told_where_they_move_counters() {
        let rule = |more: &str| {
            format!("[{{key: f, {more}, descriptors: [{{key: k, limits: [1/day]}}]}}]")
        };
        let shared = rule("value: a*, limits: [1/hour], share_threshold: true");
        check(
            &rule("value: a*, limits: [1/hour]"),
            &shared,
            &[
                "f=a* f=a* 1/hour: its values share one counter now",
                "f=a*/k f=a*/k 1/day: its values share one counter now",
            ],
        );
        check(
            &shared,
            &rule("value: ab*, limits: [1/hour], share_threshold: true"),
            &[
                "f=ab* f=ab* 1/hour: its values shared the counter of `a*`",
                "f=ab*/k f=ab*/k 1/day: its values shared the counter of `a*`",
            ],
        );
        // A rule of its own for a value goes on with the value's count if window and name are those.
        check(
            "[{key: u, limits: [1/day]}]",
            "[{key: u, limits: [1/day]}, {key: u, value: a, limits: [9/day]}]",
            &[],
        );
        check(
            "[{key: u, limits: [1/day]}]",
            "[{key: u, limits: [1/day]}, {key: u, value: a, limits: [9/hour]}]",
            &["u=a u=a 9/hour: its window was `day`"],
        );
    }
}
