//! Adds the tree of an overlay to that of a resource.
//!
//! Each rule of the resource is met by at most one rule of the overlay, found as a rule is found for an entry: its own key
//! and value first, then the first with a `*` that matches, then its key alone. Whatever a rule of the overlay says is
//! added to each rule that it meets, unless the resource says it too. `refused.rs` has the keys that no overlay may have.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::rules::OverlayRules;
use crate::policy::compile::Joint;
use crate::policy::problem::{Problem, Severity, Source};
use crate::policy::schema::start_of;
use crate::policy::yaml::{Node, Value, nearest};

/// Maximum number of errors, and of rules that wait, that are told: each is logged whenever the policies change.
const PROBLEMS_MAX: usize = 100;

/// Rules of a resource at one place that are compared with one that waits, for a hint.
const HINTS_MAX: usize = 1_000;

/// The two as one, and what is not in it.
pub struct Merged<'a> {
    pub joint: Joint<'a>,
    /// Keys that the resource has, too.
    pub conflicts: Vec<Problem>,
    /// Rules that meet none.
    pub waiting: Vec<Problem>,
    /// Rules of the resource that have an overlay.
    pub met_count: usize,
}

/// The key and value of a rule of the resource.
type Sent = (String, Option<String>);

struct Merge<'a> {
    resource: &'a Source,
    overlay: &'a Source,
    /// The start of the overlay in the text of both.
    offset: usize,
    left_out: &'a HashSet<usize>,
    met: HashMap<usize, usize>,
    /// The starts of rules of the overlay that meet any.
    meeting: HashSet<usize>,
    /// What the resource has where a rule of the overlay looks, for hints.
    seen: HashMap<usize, Arc<[Sent]>>,
    conflicts: Vec<Problem>,
    mistakes: HashSet<(bool, usize, String)>,
}

/// Adds an overlay to a resource, but not to the rules of the resource that start at one of `left_out`. Both are well-formed
/// policies.
pub fn merge<'a>(
    (resource, mut resource_node): (&'a Source, Node),
    (overlay, mut overlay_node): (&'a Source, Node),
    left_out: &'a HashSet<usize>,
) -> Merged<'a> {
    let offset = Joint::overlay_start(resource);
    overlay_node.shift(offset);
    let mut merge = Merge {
        resource,
        overlay,
        offset,
        left_out,
        met: HashMap::new(),
        meeting: HashSet::new(),
        seen: HashMap::new(),
        conflicts: Vec::new(),
        mistakes: HashSet::new(),
    };
    merge.add(&mut resource_node, &overlay_node, &["domain"]);
    let rules = OverlayRules::of(&overlay_node);
    merge.level(&mut resource_node, &rules);
    let mut waiting = Vec::new();
    merge.wait(&rules, "", &mut waiting);
    let met_count = merge.met.len();
    let source = Joint::source(resource, overlay);
    let joint = Joint { resource, overlay, source, node: resource_node, met: merge.met };
    Merged { joint, conflicts: merge.conflicts, waiting, met_count }
}

impl Merge<'_> {
    /// The rules below a node of the resource, and those of the overlay that may meet them.
    fn level(&mut self, parent: &mut Node, rules: &OverlayRules<'_>) {
        let Some(sent) = rules_mut(parent).filter(|_| !rules.is_empty()) else { return };
        let own = |rule, key| text(rule, key).map(str::to_owned);
        let named = sent.iter().filter_map(|rule| Some((own(rule, "key")?, own(rule, "value"))));
        let named: Arc<[Sent]> = named.take(HINTS_MAX).collect();
        for index in 0..rules.len() {
            let start = start_of(rules.node(index)).start;
            if !self.meeting.contains(&start) {
                self.seen.entry(start).or_insert_with(|| named.clone());
            }
        }
        for rule in sent {
            let Some(key) = text(rule, "key") else { continue };
            let Some(index) = rules.meeting(key, text(rule, "value")) else { continue };
            let node = rules.node(index);
            let start = start_of(node).start;
            let rule_start = start_of(rule).start;
            self.meeting.insert(start);
            self.seen.remove(&start);
            if !self.left_out.contains(&rule_start) {
                self.met.insert(rule_start, start);
                self.add(rule, node, &["key", "value"]);
            }
            self.level(rule, rules.below(index));
        }
    }

    /// Adds the entries of a map to one of the resource, but its rules and some others.
    fn add(&mut self, sent: &mut Node, more: &Node, but: &[&str]) {
        let (Value::Map(entries), Value::Map(more)) = (&mut sent.value, &more.value) else {
            return;
        };
        for (key, value) in more {
            let name = key.scalar().unwrap_or_default();
            if but.contains(&name) || name == "descriptors" {
                continue;
            }
            let known = entries.iter().find(|(known, _)| known.scalar() == Some(name));
            match known.map(|(known, _)| known.span.start) {
                Some(start) if start < self.offset => {
                    let at =
                        Problem::at(self.resource, Severity::Error, start..start, String::new());
                    let message = format!(
                        "the resource says `{name}` here already, in {}:{}",
                        at.path, at.line
                    );
                    self.conflict(key, message);
                }
                Some(_) => {}
                None => entries.push((key.clone(), value.clone())),
            }
        }
    }

    fn conflict(&mut self, key: &Node, message: String) {
        let span = key.span.start - self.offset..key.span.end - self.offset;
        let problem = Problem::at(self.overlay, Severity::Error, span, message);
        // A rule that meets several has its problems once.
        let is_new = self.mistakes.insert(Joint::mistake_of(self.resource, &problem));
        if is_new && self.conflicts.len() < PROBLEMS_MAX {
            self.conflicts.push(problem);
        }
    }

    /// Reports the rules that meet none.
    fn wait(&self, rules: &OverlayRules<'_>, above: &str, waiting: &mut Vec<Problem>) {
        for index in 0..rules.len() {
            if PROBLEMS_MAX < waiting.len() {
                return;
            }
            let node = rules.node(index);
            let start = start_of(node).start;
            let own = name(text(node, "key"), text(node, "value"));
            let path = format!("{above}{own}");
            if self.meeting.contains(&start) {
                self.wait(rules.below(index), &format!("{path}/"), waiting);
                continue;
            }
            let message = match waiting.len() {
                ..PROBLEMS_MAX => self.why_waiting(rules, index, &path),
                _ => "more rules wait; they are not shown".to_owned(),
            };
            let start = start - self.offset;
            waiting.push(Problem::at(self.overlay, Severity::Warning, start..start + 1, message));
        }
    }

    fn why_waiting(&self, rules: &OverlayRules<'_>, index: usize, path: &str) -> String {
        let node = rules.node(index);
        let seen = self.seen.get(&start_of(node).start);
        let sent = || seen.iter().flat_map(|sent| sent.iter());
        let taken = sent().find_map(|rule| Some((rules.taker(index, as_text(rule))?, rule)));
        if let Some((other, (key, value))) = taken {
            let at = start_of(rules.node(other)).start - self.offset;
            let other = Problem::at(self.overlay, Severity::Warning, at..at, String::new());
            let name = name(Some(key), value.as_deref());
            return format!(
                "this adds nothing: the rule of the overlay in line {} meets `{name}` already",
                other.line
            );
        }
        let names: Vec<String> =
            sent().map(|(key, value)| name(Some(key), value.as_deref())).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let own = name(text(node, "key"), text(node, "value"));
        let hint = match (nearest(&own, &names), names.first()) {
            (Some(meant), _) => format!("; did you mean `{meant}`?"),
            (None, Some(first)) => format!("; it has `{first}` here"),
            (None, None) => String::new(),
        };
        format!("this waits: the resource has no rule `{path}`{hint}")
    }
}

/// The text of a rule's key or value; None if it has none, or an empty one.
fn text<'n>(rule: &'n Node, key: &str) -> Option<&'n str> {
    rule.get(key).and_then(Node::scalar).filter(|text| !text.is_empty())
}

fn as_text((key, value): &Sent) -> (&str, Option<&str>) {
    (key, value.as_deref())
}

fn name(key: Option<&str>, value: Option<&str>) -> String {
    match (key.unwrap_or_default(), value) {
        (key, Some(value)) => format!("{key}={value}"),
        (key, None) => key.to_owned(),
    }
}

/// The rules of a node of the resource.
fn rules_mut(node: &mut Node) -> Option<&mut Vec<Node>> {
    let Value::Map(entries) = &mut node.value else { return None };
    let (_, rules) = entries.iter_mut().find(|(key, _)| key.scalar() == Some("descriptors"))?;
    match &mut rules.value {
        Value::List(rules) => Some(rules),
        _ => None,
    }
}
