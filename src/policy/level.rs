//! The rules of one level of the tree, and which of them an entry matches.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::rule::Rule;
use super::rule::RuleValue;
use super::rule::SourceLocation;

/// Rules that stand side by side.
#[derive(Debug, Default)]
pub struct Level {
    /// In the order of the file.
    pub(super) rules: Vec<Rule>,
    keys: HashMap<Box<str>, KeyRules, RandomState>,
    /// Those whose key has a `*`, in the order of the file.
    joined: Vec<usize>,
}

/// The rules for one key of an entry, by index.
#[derive(Debug, Default)]
struct KeyRules {
    exact: HashMap<Box<str>, usize, RandomState>,
    /// In the order of the file: the first that matches wins.
    patterns: Vec<usize>,
    any: Option<usize>,
}

impl Level {
    /// Adds a rule, and says which one stands in its way: one for the same value, or a pattern before it
    /// that matches all that it would.
    pub(super) fn push(&mut self, rule: Rule) -> Result<(), Obstacle> {
        if let Some(obstacle) = self.covered(&rule) {
            return Err(obstacle);
        }
        let hidden = self.hidden(&rule);
        let keys = self.keys.entry(rule.key.as_str().into()).or_default();
        let index = self.rules.len();
        let earlier = |found: &usize| self.rules[*found].location.clone();
        match &rule.value {
            RuleValue::Joined { .. } => self.joined.push(index),
            RuleValue::Exact(value) => {
                if let Some(found) = keys.exact.get(value.as_str()) {
                    return Err(Obstacle::Same(earlier(found)));
                }
                keys.exact.insert(value.as_str().into(), index);
            }
            RuleValue::Pattern { pattern, .. } => {
                let known =
                    keys.patterns.iter().filter_map(|found| match &self.rules[*found].value {
                        RuleValue::Pattern { pattern, .. } => Some((found, pattern)),
                        _ => None,
                    });
                for (found, other) in known {
                    if other == pattern {
                        return Err(Obstacle::Same(earlier(found)));
                    }
                    if other.covers(pattern) {
                        return Err(Obstacle::Covered(earlier(found), other.as_str().to_owned()));
                    }
                }
                keys.patterns.push(index);
            }
            RuleValue::Any => {
                if let Some(found) = &keys.any {
                    return Err(Obstacle::Same(earlier(found)));
                }
                keys.any = Some(index);
            }
        }
        self.rules.push(rule);
        hidden.map_or(Ok(()), Err)
    }

    /// The pattern before a rule that takes all that it would, beside those of its own kind: one of keys, or one of
    /// all values of the key.
    fn covered(&self, rule: &Rule) -> Option<Obstacle> {
        let text = joined(rule)?;
        let patterns = |index: &&usize| match &self.rules[**index].value {
            RuleValue::Joined { pattern, .. } => pattern.matches(&text),
            _ => false,
        };
        let found = self.joined.iter().find(patterns);
        let whole =
            self.keys.get(rule.key.as_str()).filter(|_| matches!(rule.value, RuleValue::Any));
        let all = whole.and_then(|keys| keys.patterns.iter().find(|index| self.takes_all(**index)));
        let found = &self.rules[*found.or(all)?];
        match found.key == rule.key && same_value(&found.value, &rule.value) {
            true => Some(Obstacle::Same(found.location.clone())),
            false => {
                Some(Obstacle::Covered(found.location.clone(), joined(found).unwrap_or_default()))
            }
        }
    }

    /// The rule before a pattern for the key alone that is out of reach from now on.
    fn hidden(&self, rule: &Rule) -> Option<Obstacle> {
        let mut known = self.rules.iter().filter(|known| matches!(known.value, RuleValue::Any));
        let found = known.find(|known| match &rule.value {
            RuleValue::Joined { pattern, .. } => {
                joined(known).is_some_and(|text| pattern.matches(&text))
            }
            RuleValue::Pattern { pattern, .. } => rule.key == known.key && pattern.matches_all(),
            RuleValue::Exact(_) | RuleValue::Any => false,
        });
        found.map(|known| Obstacle::Hides(known.location.clone(), known.key.clone()))
    }

    fn takes_all(&self, index: usize) -> bool {
        matches!(&self.rules[index].value, RuleValue::Pattern { pattern, .. } if pattern.matches_all())
    }

    /// Visits every rule of this level and below.
    pub(super) fn each<'a>(&'a self, visit: &mut impl FnMut(&'a Rule)) {
        for rule in &self.rules {
            visit(rule);
            rule.below.each(visit);
        }
    }

    pub(super) fn pressed_paths<'a>(
        &'a self,
        above: &[(&'a str, &'a str)],
        paths: &mut Vec<Vec<(&'a str, &'a str)>>,
    ) {
        for rule in &self.rules {
            let RuleValue::Exact(value) = &rule.value else { continue };
            let mut path = above.to_vec();
            path.push((&rule.key, value));
            rule.below.pressed_paths(&path, paths);
            if rule.is_pressed() {
                paths.push(path);
            }
        }
    }

    /// The rule for an entry: an exact value beats the first pattern, which beats the key alone.
    pub(super) fn find(&self, key: &str, value: &str) -> Option<&Rule> {
        let keys = self.keys.get(key);
        if let Some(index) = keys.and_then(|keys| keys.exact.get(value)) {
            return self.rules.get(*index);
        }
        let matches = |index: &&usize| match &self.rules[**index].value {
            RuleValue::Pattern { pattern, .. } => pattern.matches(value),
            _ => false,
        };
        let pattern = keys.and_then(|keys| keys.patterns.iter().find(matches)).copied();
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

/// A rule's key and value as a pattern of both would have to take them; None for a value that is sought before all
/// patterns.
pub(super) fn joined(rule: &Rule) -> Option<String> {
    match &rule.value {
        RuleValue::Exact(_) => None,
        RuleValue::Any => Some(format!("{}_*", rule.key)),
        RuleValue::Pattern { pattern, .. } => Some(format!("{}_{}", rule.key, pattern.as_str())),
        RuleValue::Joined { pattern, .. } => Some(pattern.as_str().to_owned()),
    }
}

fn same_value(one: &RuleValue, other: &RuleValue) -> bool {
    match (one, other) {
        (RuleValue::Joined { pattern, .. }, RuleValue::Joined { pattern: other, .. }) => {
            pattern == other
        }
        _ => false,
    }
}

/// Why a rule can never be met, or what it makes so.
#[derive(Debug)]
pub enum Obstacle {
    /// A rule for the same entries stands there.
    Same(SourceLocation),
    /// This pattern before it takes all that it would match.
    Covered(SourceLocation, String),
    /// It takes all that the rule for this key alone would be met by.
    Hides(SourceLocation, String),
}

#[cfg(test)]
mod tests {
    use crate::policy::CompileOptions;
    use crate::policy::PolicySet;
    use crate::policy::Source;
    use crate::policy::compile;

    fn compiled(rules: &str) -> PolicySet {
        let text = format!("domain: d\ndescriptors: [{rules}]");
        compile(&[Source { path: "a.yaml".to_owned(), text }], CompileOptions::default()).unwrap()
    }

    /// The path of the rule that each entry meets.
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

    #[test]
    fn rules_behind_a_wildcard_are_told() {
        for (rules, told) in [
            ("{key: 'hdr*'}, {key: 'hdr_*'}", "`hdr_*` is never met: `hdr*`"),
            ("{key: 'hdr*'}, {key: hdr, value: 'a*'}", "`hdr=a*` is never met: `hdr*`"),
            ("{key: 'hdr*'}, {key: hdr}", "`hdr` is never met: `hdr*`"),
            ("{key: a, value: '*'}, {key: a}", "`a` is never met: `a_*`"),
            ("{key: a}, {key: a, value: '*'}", "`a=*` takes all values of `a`"),
            ("{key: hdr}, {key: 'hdr*'}", "`hdr*` takes all values of `hdr`"),
        ] {
            let set = compiled(rules);
            let warnings: Vec<_> = set.warnings().iter().map(|one| one.message.as_str()).collect();
            assert!(warnings.len() == 1 && warnings[0].starts_with(told), "{rules}: {warnings:?}");
        }
    }
}
