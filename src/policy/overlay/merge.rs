//! Adds the tree of an overlay to that of a resource.
//!
//! Each rule of the resource is met by at most one rule of the overlay, found as a rule is found for an entry: its own key
//! and value first, then the first with a `*` that matches, then its key alone. Whatever a rule of the overlay says is
//! added to each rule that it meets, unless the resource says it too, or it would admit more than the resource.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::rules::OverlayRules;
use crate::policy::compile::Joint;
use crate::policy::problem::{Problem, Severity, Source};
use crate::policy::schema::start_of;
use crate::policy::yaml::{Node, Value, nearest};

/// Keys at the top of an overlay that would change the limits of the resource.
const REFUSED: &[&str] = &["mode", "enforce"];

/// Keys of its `defaults` that would.
const REFUSED_DEFAULTS: &[&str] = &["mode", "grace", "when"];

/// Keys of its rules that would, or that say which entries a rule matches.
const REFUSED_IN_RULE: &[&str] = &[
    "rate_limit",
    "mode",
    "enforce",
    "shadow_mode",
    "quota_mode",
    "share_threshold",
    "one_of",
    "cidr",
    "regex",
    "not",
];

/// Maximum number of errors, and of rules that wait, that are told: each is logged whenever the policies change.
const PROBLEMS_MAX: usize = 100;

/// Rules of a resource at one place that are compared with one that waits, for a hint.
const HINTS_MAX: usize = 1_000;

/// The two as one, the errors, and the warnings: parts of the overlay that wait.
pub struct Merged<'a> {
    pub joint: Joint<'a>,
    pub errors: Vec<Problem>,
    pub waiting: Vec<Problem>,
    /// Rules of the resource that have an overlay.
    pub met_count: usize,
}

struct Merge<'a> {
    resource: &'a Source,
    overlay: &'a Source,
    /// The start of the overlay in the text of both.
    offset: usize,
    met: HashMap<usize, usize>,
    /// The starts of rules of the overlay that meet any.
    meeting: HashSet<usize>,
    /// What the resource has where a rule of the overlay looks, for hints.
    seen: HashMap<usize, Arc<[String]>>,
    errors: Vec<Problem>,
    mistakes: HashSet<(bool, usize, String)>,
}

/// Adds an overlay to a resource. Both are well-formed policies.
pub fn merge<'a>(
    (resource, mut resource_node): (&'a Source, Node),
    (overlay, mut overlay_node): (&'a Source, Node),
) -> Merged<'a> {
    let offset = Joint::overlay_start(resource);
    overlay_node.shift(offset);
    let mut merge = Merge {
        resource,
        overlay,
        offset,
        met: HashMap::new(),
        meeting: HashSet::new(),
        seen: HashMap::new(),
        errors: Vec::new(),
        mistakes: HashSet::new(),
    };
    merge.refuse(&overlay_node, REFUSED);
    if let Some(defaults) = overlay_node.get("defaults") {
        merge.refuse(defaults, REFUSED_DEFAULTS);
    }
    merge.add(&mut resource_node, &overlay_node, &[&["domain"], REFUSED]);
    let rules = OverlayRules::of(&overlay_node);
    merge.level(&mut resource_node, &rules);
    let mut waiting = Vec::new();
    merge.wait(&rules, "", &mut waiting);
    let met_count = merge.met.len();
    let source = Joint::source(resource, overlay);
    let joint = Joint { resource, overlay, source, node: resource_node, met: merge.met };
    Merged { joint, errors: merge.errors, waiting, met_count }
}

impl Merge<'_> {
    /// The rules below a node of the resource, and those of the overlay that may meet them.
    fn level(&mut self, parent: &mut Node, rules: &OverlayRules<'_>) {
        let Some(sent) = rules_mut(parent).filter(|_| !rules.is_empty()) else { return };
        let names =
            sent.iter().take(HINTS_MAX).map(|rule| name(text(rule, "key"), text(rule, "value")));
        let names: Arc<[String]> = names.collect();
        for index in 0..rules.len() {
            let start = start_of(rules.node(index)).start;
            if !self.meeting.contains(&start) {
                self.seen.entry(start).or_insert_with(|| names.clone());
            }
        }
        for rule in sent {
            let Some(key) = text(rule, "key") else { continue };
            let Some(index) = rules.meeting(key, text(rule, "value")) else { continue };
            let node = rules.node(index);
            let start = start_of(node).start;
            self.met.insert(start_of(rule).start, start);
            self.meeting.insert(start);
            self.seen.remove(&start);
            self.refuse(node, REFUSED_IN_RULE);
            self.add(rule, node, &[&["key", "value"], REFUSED_IN_RULE]);
            self.level(rule, rules.below(index));
        }
    }

    /// Adds the entries of a map to one of the resource, but its rules and some others.
    fn add(&mut self, sent: &mut Node, more: &Node, but: &[&[&str]]) {
        let (Value::Map(entries), Value::Map(more)) = (&mut sent.value, &more.value) else {
            return;
        };
        for (key, value) in more {
            let name = key.scalar().unwrap_or_default();
            if but.iter().any(|names| names.contains(&name)) || name == "descriptors" {
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
                    self.error(key, message);
                }
                Some(_) => {}
                None => entries.push((key.clone(), value.clone())),
            }
        }
    }

    /// Reports keys that an overlay can't have.
    fn refuse(&mut self, node: &Node, keys: &[&str]) {
        for key in keys.iter().filter_map(|key| node.key(key)) {
            let name = key.scalar().unwrap_or_default();
            let message = match name {
                "rate_limit" => "an overlay adds `limits`, not `rate_limit`".to_owned(),
                "share_threshold" | "one_of" | "cidr" | "regex" | "not" => format!(
                    "`{name}` is invalid in an overlay: its rules meet those of the resource by `key` and `value`"
                ),
                _ => format!(
                    "`{name}` would change the limits of the resource; set it in the limits of the overlay"
                ),
            };
            self.error(key, message);
        }
    }

    fn error(&mut self, key: &Node, message: String) {
        let span = key.span.start - self.offset..key.span.end - self.offset;
        let problem = Problem::at(self.overlay, Severity::Error, span, message);
        // A rule that meets several has its problems once.
        let is_new = self.mistakes.insert(Joint::mistake_of(self.resource, &problem));
        if is_new && self.errors.len() < PROBLEMS_MAX {
            self.errors.push(problem);
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
            let names: Vec<&str> = self
                .seen
                .get(&start)
                .iter()
                .flat_map(|names| names.iter())
                .map(String::as_str)
                .collect();
            let hint = match (nearest(&own, &names), names.first()) {
                (Some(meant), _) => format!("; did you mean `{meant}`?"),
                (None, Some(first)) => format!("; it has `{first}` here"),
                (None, None) => String::new(),
            };
            let message = match waiting.len() {
                ..PROBLEMS_MAX => format!("this waits: the resource has no rule `{path}`{hint}"),
                _ => "more rules wait; they are not shown".to_owned(),
            };
            let start = start - self.offset;
            waiting.push(Problem::at(self.overlay, Severity::Warning, start..start + 1, message));
        }
    }
}

/// The text of a rule's key or value; None if it has none, or an empty one.
fn text<'n>(rule: &'n Node, key: &str) -> Option<&'n str> {
    rule.get(key).and_then(Node::scalar).filter(|text| !text.is_empty())
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
