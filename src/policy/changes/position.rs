//! The position of a request in a policy set, with the limits so far.

use std::ptr;

use crate::policy::model::{Classes, Domain, Key, Rule, RuleLevel, RuleLimit};

/// A rule that matches a request, and its position.
#[derive(Clone)]
pub struct MetRule<'p> {
    pub rule: &'p Rule,
    /// The key of its counters.
    pub key: Key,
    /// The rules of its path, each with the number of its entry in the request.
    pub path: Vec<(usize, &'p Rule)>,
}

/// A limit of a request.
#[derive(Clone, Copy)]
pub struct Met<'a, 'p> {
    pub at: &'a MetRule<'p>,
    pub limit: &'p RuleLimit,
}

impl Met<'_, '_> {
    /// Whether both have the same key.
    fn has_counter_of(&self, other: &Met<'_, '_>) -> bool {
        self.limit.limit.tag() == other.limit.limit.tag() && self.at.key == other.at.key
    }

    /// Whether one of these has the same counter.
    pub fn is_among(&self, others: &[Met<'_, '_>]) -> bool {
        others.iter().any(|other| self.has_counter_of(other))
    }
}

/// The kind of an entry in one of the sets.
#[derive(Clone, Copy)]
pub enum EntryMatch<'p> {
    Rule(&'p Rule),
    /// Not part of the path.
    Qualifier,
    /// The path ends before it, and so do all longer ones.
    Unknown,
}

impl EntryMatch<'_> {
    /// Distinguishes the possible continuations.
    pub fn identity(&self) -> (bool, *const Rule) {
        match self {
            Self::Rule(rule) => (true, ptr::from_ref(*rule)),
            Self::Qualifier => (true, ptr::null()),
            Self::Unknown => (false, ptr::null()),
        }
    }
}

/// The position of a request in one of the sets.
#[derive(Clone)]
pub struct Position<'p> {
    classes: &'p Classes,
    /// The key of the path so far.
    key: Key,
    path: Vec<(usize, &'p Rule)>,
    /// Rules for the next entry; None after an entry without a rule.
    pub below: Option<&'p RuleLevel>,
    /// Cascading rules before the end.
    cascading: Vec<MetRule<'p>>,
    /// The rule at the end of the path.
    pub end: Option<MetRule<'p>>,
}

impl<'p> Position<'p> {
    /// The position before the first entry.
    pub fn start(domain: &'p Domain) -> Self {
        Self {
            classes: &domain.classes,
            key: Key::of_domain(&domain.name),
            path: Vec::new(),
            below: Some(&domain.rules),
            cascading: Vec::new(),
            end: None,
        }
    }

    /// The kind of the next entry.
    pub fn entry(&self, key: &str, value: &str) -> EntryMatch<'p> {
        if self.classes.qualifies(key) {
            return EntryMatch::Qualifier;
        }
        let rule = self.below.and_then(|below| below.find(key, value));
        rule.map_or(EntryMatch::Unknown, EntryMatch::Rule)
    }

    /// The position after one more entry; `number` is its place in the request.
    pub fn after(&self, found: EntryMatch<'p>, (key, value): (&str, &str), number: usize) -> Self {
        let mut next = self.clone();
        if matches!(found, EntryMatch::Qualifier) {
            return next;
        }
        next.cascading.extend(next.end.take().filter(|end| end.rule.cascade));
        let EntryMatch::Rule(rule) = found else {
            return Self { below: None, ..next };
        };
        rule.push_step(&mut next.key, key, value);
        next.path.push((number, rule));
        next.end = Some(MetRule { rule, key: next.key.clone(), path: next.path.clone() });
        Self { below: Some(&rule.below), ..next }
    }

    /// The limits of a request that ends here.
    pub fn met(&self) -> Vec<Met<'_, 'p>> {
        let limits = |at| MetRule::limits(at).map(move |limit| Met { at, limit });
        self.cascading.iter().chain(&self.end).flat_map(limits).collect()
    }

    /// Whether neither this request nor a longer one has limits.
    pub fn is_over(&self) -> bool {
        self.below.is_none() && self.cascading.is_empty()
    }
}

impl<'p> MetRule<'p> {
    /// In the order of the file.
    pub fn limits(&self) -> impl Iterator<Item = &'p RuleLimit> + use<'p> {
        let rule = self.rule;
        rule.limits.iter().map(|limit| &**limit)
    }
}
