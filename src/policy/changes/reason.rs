//! Determines which limit another one has replaced, and why it does not continue its count.

use super::position::{Met, MetRule};
use crate::policy::model::{Matcher, Pattern, Rule, RuleLimit};

/// The limit that another one has most likely replaced: one with the same identity, or else one of the same entry.
pub fn predecessor<'m, 'a, 'p>(
    gone: &[&'m Met<'a, 'p>],
    limit: &Met<'_, '_>,
) -> Option<&'m Met<'a, 'p>> {
    let rank = |other: &Met<'_, '_>| {
        let is_here = entry(other.at) == entry(limit.at);
        let (old, new) = (other.limit, limit.limit);
        let is_same = old.limit.tag() == new.limit.tag();
        let is_named = !new.name.is_empty() && old.name == new.name;
        match (is_same || is_named, is_here) {
            (true, true) => Some(if is_named { 0 } else { 1 }),
            (true, false) => Some(if is_named { 2 } else { 3 }),
            (false, true) => Some(if old.window == new.window { 4 } else { 5 }),
            (false, false) => None,
        }
    };
    let ranked = gone.iter().filter_map(|other| Some((rank(other)?, *other)));
    ranked.min_by_key(|(rank, _)| *rank).map(|(_, other)| other)
}

/// The entry of the request that matches a rule.
fn entry(at: &MetRule<'_>) -> Option<usize> {
    at.path.last().map(|(entry, _)| *entry)
}

/// The difference, as a clause.
pub fn of(old: &Met<'_, '_>, new: &Met<'_, '_>) -> String {
    if old.at.key == new.at.key {
        return difference(old.limit, new.limit);
    }
    let entries = |at: &MetRule<'_>| at.path.iter().map(|(entry, _)| *entry).collect::<Vec<_>>();
    let mut steps = old.at.path.iter().zip(&new.at.path);
    let other = steps.find(|(old, new)| shared(old.1) != shared(new.1));
    match other.filter(|_| entries(old.at) == entries(new.at)) {
        Some((old, new)) => other_counters(old.1, new.1),
        None => format!("its path was `{}`", old.at.rule.path),
    }
}

fn shared(rule: &Rule) -> Option<&str> {
    let of_set = || rule.matcher().filter(|_| rule.is_shared()).map(Matcher::as_str);
    rule.shared_pattern().map(Pattern::as_str).or_else(of_set)
}

/// The reason that the values of a rule have other counters than before.
fn other_counters(old: &Rule, new: &Rule) -> String {
    match (shared(old), shared(new)) {
        (None, _) => "its values share one counter now".to_owned(),
        (Some(_), None) => "its values share no counter any more".to_owned(),
        (Some(before), Some(_)) => format!("its values shared the counter of `{before}`"),
    }
}

/// The difference between two limits that gives them two counters.
fn difference(old: &RuleLimit, new: &RuleLimit) -> String {
    let mut parts = Vec::new();
    let (before, now) = (old.limit.algorithm().to_string(), new.limit.algorithm().to_string());
    if before != now {
        parts.push(format!("its algorithm was `{before}`"));
    }
    if window(old) != window(new) {
        parts.push(format!("its window was `{}`", window(old)));
    }
    let cost = |limit: &RuleLimit| limit.cost.as_ref().map(|cost| cost.name.to_string());
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
        // Only `rate_limit` has a name that is not part of the identity.
        parts.push("`rate_limit` is counted without its name, `limits` by it".to_owned());
    }
    parts.join(", ")
}

fn window(limit: &RuleLimit) -> String {
    let shown = limit.limit.to_string();
    shown.split_once('/').map_or("", |(_, window)| window).to_owned()
}
