//! Explains matching: the rules that a descriptor was compared with, and why it matched one and not the others.

use crate::policy::model::{Domain, Rule, RuleValue, SourceLocation};

/// The matching of a descriptor.
#[derive(Clone, Debug)]
pub struct RuleTrace {
    /// All entries of the descriptor.
    pub entries: Vec<(String, String)>,
    /// One for each entry of the path, up to the first without a rule.
    pub steps: Vec<TraceStep>,
    /// Entries that are not part of the path.
    pub qualifying: Vec<(String, String)>,
    pub end: TraceEnd,
}

/// One entry of a descriptor.
#[derive(Clone, Debug)]
pub struct TraceStep {
    pub key: String,
    pub value: String,
    /// The path and the place of the matching rule, if there is one.
    pub rule: Option<(String, SourceLocation)>,
    /// The paths of the other rules at this level, each with the reason that it does not match.
    pub others: Vec<(String, String)>,
}

/// The end of the matching.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TraceEnd {
    /// At a rule with limits.
    Limits,
    /// At a rule with `unlimited`.
    Unlimited,
    /// At a rule without limits.
    NoLimit,
    /// Before the last entry.
    NoRule,
    /// The descriptor has no entry of a path.
    NoPath,
}

impl Domain {
    /// The rules that a descriptor is compared with.
    pub fn trace(&self, entries: &[(&str, &str)]) -> RuleTrace {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        let qualifying = entries.iter().filter(|(key, _)| self.classes.qualifies(key));
        let qualifying = qualifying.map(owned).collect();
        let path = self.path(entries);
        let walk = self.walk(&path);
        let mut level = self.rules();
        let mut steps = Vec::new();
        for (index, (key, value)) in path.iter().enumerate() {
            let rule = walk.steps().get(index).copied();
            let others =
                level.iter().filter(|other| !rule.is_some_and(|rule| std::ptr::eq(rule, *other)));
            steps.push(TraceStep {
                key: (*key).to_owned(),
                value: (*value).to_owned(),
                rule: rule.map(|rule| (rule.path.clone(), rule.location.clone())),
                others: others
                    .map(|other| (other.path.clone(), why_not(other, key, value)))
                    .collect(),
            });
            let Some(rule) = rule else { break };
            level = rule.rules();
        }
        let end = match walk.end() {
            None if path.is_empty() => TraceEnd::NoPath,
            None => TraceEnd::NoRule,
            Some(rule) if rule.unlimited => TraceEnd::Unlimited,
            Some(rule) if rule.limits.is_empty() => TraceEnd::NoLimit,
            Some(_) => TraceEnd::Limits,
        };
        RuleTrace { entries: entries.iter().map(owned).collect(), steps, qualifying, end }
    }
}

fn why_not(rule: &Rule, key: &str, value: &str) -> String {
    match &rule.value {
        RuleValue::Joined { pattern, .. } if !pattern.matches(&format!("{key}_{value}")) => {
            format!("`{}` does not match `{key}_{value}`", pattern.as_str())
        }
        RuleValue::Joined { .. } => "an exact value or an earlier pattern comes first".to_owned(),
        _ if rule.key != key => format!("the key is `{}`", rule.key),
        RuleValue::Exact(exact) => format!("the value is `{exact}`"),
        RuleValue::Pattern { pattern, .. } if !pattern.matches(value) => {
            format!("`{}` does not match `{value}`", pattern.as_str())
        }
        RuleValue::Pattern { .. } => "an exact value or an earlier pattern comes first".to_owned(),
        RuleValue::Among { matcher, .. } if !matcher.matches(value) => {
            format!("`{}` does not match `{value}`", matcher.as_str())
        }
        RuleValue::Among { .. } => "an exact value or an earlier rule comes first".to_owned(),
        RuleValue::Any => "a value comes before the key alone".to_owned(),
    }
}
