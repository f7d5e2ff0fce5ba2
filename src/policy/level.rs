//! Rules that stand side by side, and which of them an entry meets.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use super::rule::Place;
use super::rule::Rule;
use super::rule::RuleValue;

/// Rules that stand side by side.
#[derive(Debug, Default)]
pub struct Level {
    /// In the order of the file.
    pub(super) rules: Vec<Rule>,
    keys: HashMap<Box<str>, KeyRules, RandomState>,
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
        let keys = self.keys.entry(rule.key.as_str().into()).or_default();
        let index = self.rules.len();
        let earlier = |found: &usize| self.rules[*found].place.clone();
        match &rule.value {
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
        Ok(())
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
        let keys = self.keys.get(key)?;
        let matches = |index: &&usize| match &self.rules[**index].value {
            RuleValue::Pattern { pattern, .. } => pattern.matches(value),
            RuleValue::Exact(_) | RuleValue::Any => false,
        };
        let index = keys
            .exact
            .get(value)
            .or_else(|| keys.patterns.iter().find(matches))
            .or(keys.any.as_ref())?;
        self.rules.get(*index)
    }
}

/// Why a rule can never be met.
#[derive(Debug)]
pub enum Obstacle {
    /// A rule for the same entries stands there.
    Same(Place),
    /// This pattern before it takes all that it would match.
    Covered(Place, String),
}
