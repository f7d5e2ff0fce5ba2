//! Which rules and limits a descriptor meets, and why not others.

use std::fmt;

use serde_json::Value;
use serde_json::json;

use super::Key;
use super::choice::Choice;
use super::classes::Classes;
use super::rule::Domain;
use super::rule::Rule;
use super::rule::RuleLimit;
use super::rule::RuleValue;
use super::set::describe_limit;

/// The way of one descriptor through a policy.
#[derive(Debug, Default)]
pub struct Explanation {
    steps: Vec<Step>,
    /// Entries that are no part of the path.
    qualifying: Vec<String>,
    /// What entries stand for.
    choices: Vec<String>,
    met: Vec<Met>,
    /// Why the descriptor meets no limit at its end; None if it meets some.
    without: Option<String>,
}

/// One entry of the descriptor.
#[derive(Debug)]
struct Step {
    entry: String,
    /// The rule for it, if there is one.
    rule: Option<String>,
    /// The other rules at this level, each with why it is not the one.
    others: Vec<(String, String)>,
}

/// Limits that the descriptor meets, under one key.
#[derive(Debug)]
struct Met {
    rule: String,
    cascading: bool,
    key: Key,
    /// Each as people and as programs read it.
    limits: Vec<(String, Value)>,
}

pub(super) fn explain(
    domain: Option<&Domain>,
    name: &str,
    entries: &[(&str, &str)],
) -> Explanation {
    let Some(domain) = domain else {
        let without =
            Some(format!("there is no policy for the domain `{name}`; everything passes"));
        return Explanation { without, ..Explanation::default() };
    };
    let qualifying = entries.iter().filter(|(key, _)| domain.classes.qualifies(key));
    let qualifying = qualifying.map(|(key, value)| format!("{key}={value}")).collect();
    let choices = domain.choices.iter().filter(|choice| choice.is_left_by(entries));
    let choices = choices.map(Choice::explain).collect();
    let path = domain.path(entries);
    let entries = &*path;
    let walk = domain.walk(entries);
    let mut level = domain.rules();
    let mut steps = Vec::new();
    for (index, (key, value)) in entries.iter().enumerate() {
        let rule = walk.steps().get(index).copied();
        let others =
            level.iter().filter(|other| !rule.is_some_and(|rule| std::ptr::eq(rule, *other)));
        steps.push(Step {
            entry: format!("{key}={value}"),
            rule: rule.map(|rule| format!("{} ({})", rule.path, rule.place)),
            others: others.map(|other| (other.path.clone(), why_not(other, key, value))).collect(),
        });
        let Some(rule) = rule else { break };
        level = rule.rules();
    }
    let met = |depth: usize, rule: &Rule| Met {
        rule: format!("{} ({})", rule.path, rule.place),
        cascading: depth < entries.len(),
        key: domain.key(&walk, entries, depth),
        limits: rule
            .limits
            .iter()
            .map(|limit| {
                (limit_text(&domain.classes, limit), describe_limit(&domain.classes, limit))
            })
            .collect(),
    };
    let cascading = walk.cascading().map(|(depth, rule)| met(depth, rule));
    let end = walk.end().filter(|rule| !rule.limits.is_empty());
    let met = cascading.chain(end.map(|rule| met(entries.len(), rule))).collect();
    let without = without(walk.end(), entries.len(), walk.steps().len());
    Explanation { steps, qualifying, choices, met, without }
}

/// Why the descriptor meets no limit at its end.
fn without(end: Option<&Rule>, entries: usize, found: usize) -> Option<String> {
    match end {
        None if entries == 0 => Some("a descriptor without entries meets no rule".to_owned()),
        None => {
            Some(format!("no rule for entry {}: the descriptor's own path has no limit", found + 1))
        }
        Some(rule) if rule.unlimited => Some(format!("`{}` is unlimited", rule.path)),
        Some(rule) if rule.limits.is_empty() => Some(format!("`{}` has no limit", rule.path)),
        Some(_) => None,
    }
}

fn why_not(rule: &Rule, key: &str, value: &str) -> String {
    match &rule.value {
        _ if rule.key != key => format!("its key is `{}`", rule.key),
        RuleValue::Exact(exact) => format!("its value is `{exact}`"),
        RuleValue::Pattern { pattern, .. } if !pattern.matches(value) => {
            format!("`{}` does not match `{value}`", pattern.as_str())
        }
        RuleValue::Pattern { .. } => "an exact value or an earlier pattern comes first".to_owned(),
        RuleValue::Any => "a value comes before the key alone".to_owned(),
    }
}

fn limit_text(classes: &Classes, limit: &RuleLimit) -> String {
    let of_tiers = classes.tiers.iter().zip(&limit.by_tier);
    let of_tiers: Vec<String> = of_tiers.map(|(tier, limit)| format!("{tier} {limit}")).collect();
    let rate = if of_tiers.is_empty() { limit.limit.to_string() } else { of_tiers.join(", ") };
    let name = if limit.name.is_empty() { String::new() } else { format!(" `{}`", limit.name) };
    let RuleLimit { limit, mode, on_outage, .. } = limit;
    format!("{rate}{name}, {}, mode {mode}, on_outage {on_outage}", limit.algorithm())
}

impl Explanation {
    /// The same for programs.
    pub fn to_json(&self) -> Value {
        let step = |step: &Step| {
            let other = |(rule, why): &(String, String)| json!({ "rule": rule, "why_not": why });
            json!({
                "entry": step.entry,
                "rule": step.rule,
                "others": step.others.iter().map(other).collect::<Value>(),
            })
        };
        let met = |met: &Met| {
            json!({
                "rule": met.rule,
                "cascading": met.cascading,
                "key": met.key.as_str(),
                "limits": met.limits.iter().map(|(_, limit)| limit.clone()).collect::<Value>(),
            })
        };
        json!({
            "qualifying": self.qualifying,
            "choices": self.choices,
            "steps": self.steps.iter().map(step).collect::<Value>(),
            "met": self.met.iter().map(met).collect::<Value>(),
            "without_limit": self.without,
        })
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for choice in &self.choices {
            writeln!(f, "{choice}")?;
        }
        for step in &self.steps {
            match &step.rule {
                Some(rule) => writeln!(f, "{} meets {rule}", step.entry)?,
                None => writeln!(f, "{} meets no rule", step.entry)?,
            }
            for (rule, why) in &step.others {
                writeln!(f, "  not {rule}: {why}")?;
            }
        }
        for entry in &self.qualifying {
            writeln!(f, "{entry} qualifies the request")?;
        }
        for met in &self.met {
            let cascading = if met.cascading { ", which cascades" } else { "" };
            writeln!(f, "limits of {}{cascading}, under {}", met.rule, met.key)?;
            for (limit, _) in &met.limits {
                writeln!(f, "  {limit}")?;
            }
        }
        match &self.without {
            Some(why) => writeln!(f, "{why}"),
            None => Ok(()),
        }
    }
}
