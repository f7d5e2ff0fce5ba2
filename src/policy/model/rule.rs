//! Rules, and the levels of rules: which rule matches an entry, and its limits.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;
use ipnet::IpNet;

use super::address_ranges::AddressRanges;
use super::capacity::{Capacity, Only};
use super::idempotency::Idempotency;
use super::key::Key;
use super::matcher::{Matcher, ValueSet};
use super::metadata::Metadata;
use super::mode::Mode;
use super::pattern::Pattern;
use super::reservation::Reservations;
use super::rule_limit::RuleLimit;
use super::share::Share;
use super::source_location::SourceLocation;
use super::window::Window;

/// A rule: the limits of descriptors whose path ends here.
#[derive(Debug)]
pub struct Rule {
    pub key: String,
    pub value: RuleValue,
    /// The path to this rule, such as `user_id/request_type=search`.
    pub path: String,
    pub limits: Vec<Arc<RuleLimit>>,
    pub unlimited: bool,
    pub cascade: bool,
    /// Its path contains the caller: its limits are the caller's own.
    pub of_caller: bool,
    /// The tiers and priorities that may pass; all if None.
    pub only: Option<Only>,
    /// Whether `only` refuses requests that it does not allow, or warns of them.
    pub mode: Mode,
    /// The part of the callers for whom `only` is enforced; all if None.
    pub enforced: Option<Share>,
    /// Reserved capacity and pressure levels of its limits; None if there are none.
    pub capacity: Option<Box<Capacity>>,
    /// The `idempotency` of its limits, if it has one.
    pub idempotency: Option<Arc<Idempotency>>,
    /// How requests hold hits of its limits; they don't if None.
    pub reservations: Option<Arc<Reservations>>,
    /// Names of limits that are replaced in a request that matches this rule.
    pub replaces: Vec<String>,
    pub metadata: Option<Metadata>,
    pub metric_values: MetricValues,
    pub location: SourceLocation,
    /// The place of the overlay's rule that adds to it, if one does.
    pub overlay: Option<Box<SourceLocation>>,
    pub(in crate::policy) below: RuleLevel,
}

/// The values of requests in the metrics of envoyproxy/ratelimit: `value_to_metric` and `detailed_metric`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MetricValues {
    /// Those of the rule's own entry, for its limits and those of all rules below it.
    pub own: bool,
    /// Those of all entries, for its limits.
    pub all: bool,
}

/// The values that match a rule.
#[derive(Debug)]
pub enum RuleValue {
    /// Exactly this value.
    Exact(String),
    /// Values that match the pattern; `shared`: they share one counter.
    Pattern { pattern: Pattern, shared: bool },
    /// Entries whose key and value, joined by `_`, match, as in the reference for keys with a `*`; `shared`: all values
    /// of one key share one counter.
    Joined { pattern: Pattern, shared: bool },
    /// Values of a set; `shared`: they share one counter.
    Among { matcher: Matcher, shared: bool },
    /// Any value, each with its own counters.
    Any,
}

impl Rule {
    /// Whether the rule has a wildcard whose values share one counter.
    pub(in crate::policy) fn shared_pattern(&self) -> Option<&Pattern> {
        match &self.value {
            RuleValue::Pattern { pattern, shared: true }
            | RuleValue::Joined { pattern, shared: true } => Some(pattern),
            _ => None,
        }
    }

    /// Whether its values share one counter.
    pub(in crate::policy) fn is_shared(&self) -> bool {
        matches!(
            self.value,
            RuleValue::Pattern { shared: true, .. }
                | RuleValue::Joined { shared: true, .. }
                | RuleValue::Among { shared: true, .. }
        )
    }

    /// Adds an entry that matches this rule to the key of its counters.
    pub(in crate::policy) fn push_step(&self, key: &mut Key, name: &str, value: &str) {
        match &self.value {
            RuleValue::Pattern { pattern, shared: true } => key.push_shared(name, pattern.as_str()),
            RuleValue::Joined { pattern, shared: true } => key.push_joined(name, pattern.as_str()),
            RuleValue::Among { matcher, shared: true } => key.push_among(name, matcher.id()),
            _ => key.push_value(name, value),
        }
    }

    /// The limit that a request's own limit replaces: the one with the same window, or the only one.
    pub(in crate::policy) fn limit_of(&self, window: Window) -> Option<&RuleLimit> {
        let same = self.limits.iter().find(|limit| limit.window == window);
        let only = || self.limits.first().filter(|_| self.limits.len() == 1);
        same.or_else(only).map(|limit| &**limit)
    }

    /// The values of its set, if it has one.
    pub(in crate::policy) fn matcher(&self) -> Option<&Matcher> {
        match &self.value {
            RuleValue::Among { matcher, .. } => Some(matcher),
            _ => None,
        }
    }

    /// Its key and value as the pattern that would have to match them; None for a set, and for an exact value, which takes
    /// precedence over patterns.
    pub(in crate::policy) fn joined(&self) -> Option<String> {
        match &self.value {
            RuleValue::Exact(_) | RuleValue::Among { .. } => None,
            RuleValue::Any => Some(format!("{}_*", self.key)),
            RuleValue::Pattern { pattern, .. } => {
                Some(format!("{}_{}", self.key, pattern.as_str()))
            }
            RuleValue::Joined { pattern, .. } => Some(pattern.as_str().to_owned()),
        }
    }

    /// The networks whose addresses it matches.
    pub(in crate::policy) fn networks(&self) -> &[IpNet] {
        match self.matcher().map(Matcher::values) {
            Some(ValueSet::Cidr(networks, _)) => networks,
            _ => &[],
        }
    }

    /// Whether it has pressure levels.
    pub(in crate::policy) fn has_pressure(&self) -> bool {
        self.capacity.as_ref().is_some_and(|capacity| capacity.has_levels())
    }

    /// The rules for the next entry, in the order of the file.
    pub fn rules(&self) -> &[Rule] {
        self.below.rules()
    }
}

/// Rules of the same level.
#[derive(Debug, Default)]
pub struct RuleLevel {
    /// In the order of the file.
    rules: Vec<Rule>,
    keys: HashMap<Box<str>, KeyRules, RandomState>,
    /// Rules with a `*` in their key, in the order of the file.
    joined: Vec<usize>,
}

/// The rules for one key of an entry, by index.
#[derive(Debug, Default)]
struct KeyRules {
    /// Exact and listed values.
    exact: HashMap<Box<str>, usize, RandomState>,
    /// In the order of the file: the first that matches wins. Those of addresses are in `ranges`.
    patterns: Vec<usize>,
    /// The addresses of all rules, by their index.
    ranges: AddressRanges,
    /// By the id of the set.
    sets: HashMap<Box<str>, usize, RandomState>,
    any: Option<usize>,
}

impl RuleLevel {
    /// The rules, in the order of the file.
    pub(in crate::policy) fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Visits every rule of this level and below.
    pub(in crate::policy) fn each<'a>(&'a self, visit: &mut impl FnMut(&'a Rule)) {
        for rule in &self.rules {
            visit(rule);
            rule.below.each(visit);
        }
    }

    /// Adds the entries that lead from those of a path to each listed rule of this level and below it, where the rules say all
    /// values.
    pub(in crate::policy) fn exact_paths<'a>(
        &'a self,
        above: &[(&'a str, &'a str)],
        is_listed: fn(&Rule) -> bool,
        paths: &mut Vec<Vec<(&'a str, &'a str)>>,
    ) {
        for rule in &self.rules {
            let RuleValue::Exact(value) = &rule.value else { continue };
            let mut path = above.to_vec();
            path.push((&rule.key, value));
            rule.below.exact_paths(&path, is_listed, paths);
            if is_listed(rule) {
                paths.push(path);
            }
        }
    }

    /// Adds a rule, even if another one always takes precedence.
    pub(in crate::policy) fn push(&mut self, rule: Rule) {
        let index = self.rules.len();
        let keys = self.keys.entry(rule.key.as_str().into()).or_default();
        match &rule.value {
            RuleValue::Joined { .. } => self.joined.push(index),
            RuleValue::Exact(value) => {
                keys.exact.insert(value.as_str().into(), index);
            }
            RuleValue::Pattern { .. } => keys.patterns.push(index),
            RuleValue::Among { matcher, .. } => {
                keys.sets.entry(matcher.id().into()).or_insert(index);
                match matcher.values() {
                    ValueSet::OneOf(values) => {
                        for value in values {
                            keys.exact.entry(value.clone()).or_insert(index);
                        }
                    }
                    // Their ranges are made when the level is complete.
                    ValueSet::Cidr(..) => {}
                    _ => keys.patterns.push(index),
                }
            }
            RuleValue::Any => keys.any = Some(index),
        }
        self.rules.push(rule);
    }

    /// Makes the ranges of addresses. Must be called after the last rule.
    pub(in crate::policy) fn complete(&mut self) {
        let mut networks: HashMap<&str, Vec<(&IpNet, usize)>> = HashMap::new();
        for (index, rule) in self.rules.iter().enumerate() {
            let own = rule.networks();
            if !own.is_empty() {
                let all = networks.entry(&rule.key).or_default();
                all.extend(own.iter().map(|network| (network, index)));
            }
        }
        for (key, networks) in networks {
            if let Some(keys) = self.keys.get_mut(key) {
                keys.ranges = AddressRanges::new(networks.into_iter());
            }
        }
    }

    /// Whether a rule for addresses has any that no earlier rule has. The level must be complete.
    pub(in crate::policy) fn has_addresses(&self, index: usize) -> bool {
        let key = self.rules.get(index).map(|rule| &*rule.key);
        let keys = key.and_then(|key| self.keys.get(key));
        keys.is_some_and(|keys| keys.ranges.has(index))
    }

    /// The rule for exactly this value of a key.
    pub(in crate::policy) fn exact(&self, key: &str, value: &str) -> Option<&Rule> {
        self.keys.get(key)?.exact.get(value).map(|index| &self.rules[*index])
    }

    /// The rule for a set of values of a key, by the id of the set.
    pub(in crate::policy) fn among(&self, key: &str, id: &str) -> Option<&Rule> {
        self.keys.get(key)?.sets.get(id).map(|index| &self.rules[*index])
    }

    /// The rule for all values of a key.
    pub(in crate::policy) fn any(&self, key: &str) -> Option<&Rule> {
        self.keys.get(key)?.any.map(|index| &self.rules[index])
    }

    /// The rules with a pattern for values of a key, in the order of the file.
    pub(in crate::policy) fn patterns(&self, key: &str) -> impl Iterator<Item = (&Rule, &Pattern)> {
        let indexes = self.keys.get(key).into_iter().flat_map(|keys| &keys.patterns);
        indexes.filter_map(|index| match &self.rules[*index] {
            rule @ Rule { value: RuleValue::Pattern { pattern, .. }, .. } => Some((rule, pattern)),
            _ => None,
        })
    }

    /// The rules with a pattern of key and value together, in the order of the file.
    pub(in crate::policy) fn joined(&self) -> impl Iterator<Item = (&Rule, &Pattern)> {
        self.joined.iter().filter_map(|index| match &self.rules[*index] {
            rule @ Rule { value: RuleValue::Joined { pattern, .. }, .. } => Some((rule, pattern)),
            _ => None,
        })
    }

    /// The rule for an entry: an exact value takes precedence over the first pattern, and that over a key alone.
    pub(in crate::policy) fn find(&self, key: &str, value: &str) -> Option<&Rule> {
        let keys = self.keys.get(key);
        if let Some(index) = keys.and_then(|keys| keys.exact.get(value)) {
            return self.rules.get(*index);
        }
        let matches = |index: &&usize| match &self.rules[**index].value {
            RuleValue::Pattern { pattern, .. } => pattern.matches(value),
            RuleValue::Among { matcher, .. } => matcher.matches(value),
            _ => false,
        };
        let range = keys.filter(|keys| !keys.ranges.is_empty());
        let range = range.and_then(|keys| keys.ranges.find(value));
        let before = |index: &&usize| range.is_none_or(|range| **index < range);
        let mut patterns = keys.into_iter().flat_map(|keys| &keys.patterns).take_while(before);
        let pattern = patterns.find(matches).copied().or(range);
        let pattern = match self.joined.is_empty() {
            true => pattern,
            false => earlier(pattern, self.find_joined(key, value)),
        };
        let index = pattern.or_else(|| keys.and_then(|keys| keys.any))?;
        self.rules.get(index)
    }

    /// The first rule whose pattern matches key and value together. Only levels with such a rule join them.
    fn find_joined(&self, key: &str, value: &str) -> Option<usize> {
        let text = format!("{key}_{value}");
        let matches = |index: &&usize| match &self.rules[**index].value {
            RuleValue::Joined { pattern, .. } => pattern.matches(&text),
            _ => false,
        };
        self.joined.iter().find(matches).copied()
    }
}

fn earlier(one: Option<usize>, other: Option<usize>) -> Option<usize> {
    one.into_iter().chain(other).min()
}

#[cfg(test)]
mod tests {
    use crate::policy::{CompileOptions, PolicySet, Source, compile};

    fn compiled(rules: &str) -> PolicySet {
        let text = format!("domain: d\ndescriptors: [{rules}]");
        compile(&[Source { path: "a.yaml".to_owned(), text }], CompileOptions::default()).unwrap()
    }

    /// The path of the rule that matches each entry.
    #[track_caller]
    fn check(rules: &str, met: &[(&str, &str, &str)]) {
        let set = compiled(rules);
        for (key, value, expected) in met {
            let walk = set.domain("d").unwrap().walk(&[(key, value)]);
            let path = walk.end().map_or("", |rule| &rule.path);
            assert_eq!(path, *expected, "{key}={value}");
        }
    }

    #[test]
    fn listed_values_come_before_other_sets_and_those_stand_in_the_order_of_the_file() {
        let rules = "
            {key: ip, cidr: [10.1.0.0/16, '2001:db8::/32']},
            {key: ip, value: '10.*'},
            {key: ip, cidr: [10.0.0.0/8, 172.16.0.1]},
            {key: ip, one_of: [10.1.0.9, localhost]},
            {key: ip, not: {regex: '[0-9.]+'}},
            {key: ip}";
        check(
            rules,
            &[
                ("ip", "10.1.2.3", "ip=cidr 10.1.0.0/16 2001:db8::/32"),
                ("ip", "10.1.0.9", "ip=one_of 10.1.0.9 localhost"),
                ("ip", "10.2.0.0", "ip=10.*"),
                ("ip", "::ffff:10.2.0.0", "ip=cidr 10.0.0.0/8 172.16.0.1/32"),
                ("ip", "172.16.0.1", "ip=cidr 10.0.0.0/8 172.16.0.1/32"),
                ("ip", "2001:DB8::1", "ip=cidr 10.1.0.0/16 2001:db8::/32"),
                ("ip", "localhost", "ip=one_of 10.1.0.9 localhost"),
                ("ip", "remote", "ip=not regex [0-9.]+"),
                ("ip", "172.16.0.2", "ip"),
            ],
        );
        // A regular expression matches the whole value.
        check(
            "{key: a, regex: 'b|cd'}",
            &[("a", "b", "a=regex b|cd"), ("a", "xb", ""), ("a", "cdx", "")],
        );
        check("{key: a, not: {value: 'b*'}}", &[("a", "c", "a=not value b*"), ("a", "bc", "")]);
    }

    #[test]
    fn values_of_a_set_share_a_counter_only_if_told() {
        let key = |rule: &str, value: &str| {
            let set = compiled(rule);
            let domain = set.domain("d").unwrap();
            let path = [("ip", value)];
            domain.key(&domain.walk(&path), &path, 1).to_string()
        };
        let apart = "{key: ip, cidr: [10.0.0.0/8], limits: [1/day]}";
        assert_eq!(key(apart, "10.0.0.1"), "tg1|d|ip=10.0.0.1");
        let shared = "{key: ip, cidr: [10.0.0.0/8], share_threshold: true, limits: [1/day]}";
        assert_eq!(key(shared, "10.0.0.1"), key(shared, "10.0.0.2"));
        assert!(key(shared, "10.0.0.1").starts_with("tg1|d|ip~=cidr"));
    }

    #[test]
    fn an_exempt_rule_has_no_limit() {
        for limits in ["unlimited", "[unlimited]"] {
            let set = compiled(&format!(
                "{{key: a, one_of: [x], limits: {limits}}}, {{key: a, limits: [1/day]}}"
            ));
            let walk = set.domain("d").unwrap().walk(&[("a", "x")]);
            assert!(walk.end().is_some_and(|rule| rule.unlimited && rule.limits.is_empty()));
            assert!(set.warnings().is_empty(), "{:?}", set.warnings());
        }
    }

    #[test]
    fn a_wildcard_in_a_key_matches_key_and_value_together_as_in_the_reference() {
        let rules = "{key: 'hdr_*'}, {key: hdr, value: exact}, {key: 'x*', value: y}, {key: xa}";
        check(
            rules,
            &[
                ("hdr_a", "b", "hdr_*"),
                ("hdr", "b", "hdr_*"),
                ("hdr", "exact", "hdr=exact"),
                ("hd", "r_", ""),
                ("xa", "y", "x*=y"),
                ("xa", "z", "xa"),
                ("xb", "y", "x*=y"),
                ("xb", "z", ""),
            ],
        );
        // The first in the file wins, whether the `*` is in the key or in the value.
        check("{key: a, value: 'b*'}, {key: 'a*'}", &[("a", "bc", "a=b*"), ("a", "c", "a*")]);
        check(
            "{key: 'a*', value: c}, {key: a, value: '*c'}",
            &[("a", "b_c", "a*=c"), ("a", "bc", "a=*c")],
        );
    }
}
