//! Keys that no overlay may have, whatever the resource says.

use crate::policy::problem::{Problem, Severity, Source};
use crate::policy::yaml::{Node, Value};

/// Keys at the top of an overlay that would change the limits of the resource.
const AT_TOP: &[&str] = &["mode", "enforce"];

/// Keys of its `defaults` that would.
const IN_DEFAULTS: &[&str] = &["mode", "grace", "when"];

/// Keys of its rules that would, or that say which entries a rule matches.
const IN_RULE: &[&str] = &[
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

/// Maximum number of errors that are told.
const PROBLEMS_MAX: usize = 100;

/// An error for each such key, also in rules that meet none yet.
pub fn refused(overlay: &Source, node: &Node) -> Vec<Problem> {
    let mut errors = Vec::new();
    refuse(overlay, node, AT_TOP, &mut errors);
    if let Some(defaults) = node.get("defaults") {
        refuse(overlay, defaults, IN_DEFAULTS, &mut errors);
    }
    refuse_in_rules(overlay, node, &mut errors);
    errors.truncate(PROBLEMS_MAX);
    errors
}

fn refuse_in_rules(overlay: &Source, parent: &Node, errors: &mut Vec<Problem>) {
    let rules = parent.get("descriptors").map(|list| &list.value);
    let Some(Value::List(rules)) = rules else { return };
    for rule in rules {
        if PROBLEMS_MAX <= errors.len() {
            return;
        }
        refuse(overlay, rule, IN_RULE, errors);
        refuse_in_rules(overlay, rule, errors);
    }
}

fn refuse(overlay: &Source, node: &Node, keys: &[&str], errors: &mut Vec<Problem>) {
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
        errors.push(Problem::at(overlay, Severity::Error, key.span.clone(), message));
    }
}
