//! The rules of an overlay at one level, and which of them meets a rule of the resource.

use std::collections::HashMap;

use crate::policy::model::Pattern;
use crate::policy::yaml::{Node, Value};

/// The rules of an overlay below one of its nodes.
#[derive(Debug, Default)]
pub struct OverlayRules<'n> {
    rules: Vec<OverlayRule<'n>>,
    exact: HashMap<(&'n str, &'n str), usize>,
    /// In the order of the file.
    patterns: Vec<usize>,
    /// By key, those without a value.
    any: HashMap<&'n str, usize>,
}

#[derive(Debug)]
struct OverlayRule<'n> {
    node: &'n Node,
    key: &'n str,
    value: Option<&'n str>,
    key_pattern: Option<Pattern>,
    value_pattern: Option<Pattern>,
    below: OverlayRules<'n>,
}

impl<'n> OverlayRules<'n> {
    /// The rules in the `descriptors` of a node.
    pub fn of(parent: &'n Node) -> Self {
        let mut rules = Self::default();
        let Some(Value::List(nodes)) = parent.get("descriptors").map(|list| &list.value) else {
            return rules;
        };
        for node in nodes {
            let text = |key| node.get(key).and_then(Node::scalar).filter(|text| !text.is_empty());
            let Some(key) = text("key") else { continue };
            let rule = OverlayRule {
                node,
                key,
                value: text("value"),
                key_pattern: Pattern::parse(key),
                value_pattern: text("value").and_then(Pattern::parse),
                below: Self::of(node),
            };
            rules.push(rule);
        }
        rules
    }

    fn push(&mut self, rule: OverlayRule<'n>) {
        let index = self.rules.len();
        if rule.key_pattern.is_some() || rule.value_pattern.is_some() {
            self.patterns.push(index);
        }
        match rule.value {
            Some(value) => self.exact.entry((rule.key, value)).or_insert(index),
            None => self.any.entry(rule.key).or_insert(index),
        };
        self.rules.push(rule);
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The number of rules.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// The node of a rule.
    pub fn node(&self, index: usize) -> &'n Node {
        self.rules[index].node
    }

    /// The rules below a rule.
    pub fn below(&self, index: usize) -> &Self {
        &self.rules[index].below
    }

    /// The rule that meets one of the resource with this key and value in place of another, which would meet it, too.
    pub fn taker(&self, other: usize, (key, value): (&str, Option<&str>)) -> Option<usize> {
        let rule = &self.rules[other];
        let meets = match value {
            Some(value) => rule.meets_value(value),
            None => rule.value.is_none(),
        };
        let taker = self.meeting(key, value).filter(|_| meets && rule.meets_key(key))?;
        (taker != other).then_some(taker)
    }

    /// The rule that meets one of the resource with this key and value.
    pub fn meeting(&self, key: &str, value: Option<&str>) -> Option<usize> {
        let any = || self.any.get(key).copied();
        let Some(own) = value else {
            let without = |index: &&usize| {
                let rule = &self.rules[**index];
                rule.value.is_none() && rule.meets_key(key)
            };
            return any().or_else(|| self.patterns.iter().find(without).copied());
        };
        let meets = |index: &&usize| {
            let rule = &self.rules[**index];
            rule.meets_key(key) && rule.meets_value(own)
        };
        let exact = self.exact.get(&(key, own)).copied();
        exact.or_else(|| self.patterns.iter().find(meets).copied()).or_else(any)
    }
}

impl OverlayRule<'_> {
    fn meets_key(&self, key: &str) -> bool {
        self.key == key || self.key_pattern.as_ref().is_some_and(|pattern| pattern.matches(key))
    }

    fn meets_value(&self, value: &str) -> bool {
        self.value.is_none_or(|own| own == value)
            || self.value_pattern.as_ref().is_some_and(|pattern| pattern.matches(value))
    }
}
