//! What a policy file may say of a rule.

use super::limit::LimitFile;
use super::map::{map, start_of};
use super::readers::{flag, list, number, one, spanned, spanned_list, text, word};
use super::sharing::{CapacityFile, OnlyFile};
use super::words::OutageFile;
use crate::policy::problem::Severity;
use crate::policy::yaml::{Node, Reader, Spanned, Value};
use crate::printable::is_blank;

/// The largest `requests_per_unit`, as in envoyproxy/ratelimit.
const REQUESTS_MAX: u64 = u32::MAX as u64;

map! {
    /// A rule: what holds for a descriptor whose entry has this key, and this value if one is given.
    pub struct RuleFile in "a rule" at span checked by check_rule;

    /// The entry's key.
    #[schemars(required)]
    key: Spanned<String> = text;
    /// The entry's value; `*` stands for any text. Absent: any value, each with counters of its own.
    value: Spanned<String> = text;
    /// One limit, as envoyproxy/ratelimit writes it.
    rate_limit: Spanned<RateLimitFile> = spanned;
    /// Limits that all hold, atomically.
    limits: Spanned<Vec<LimitFile>> = spanned_list;
    /// Whether the limits also hold for every path below this rule.
    cascade: Spanned<bool> = flag;
    /// What to answer for this rule's limits while the store is out; allow if absent.
    on_outage: Spanned<OutageFile> = word;
    /// Who may use this at all; everybody if absent.
    only: OnlyFile = one;
    /// How much of the limits is open to whom.
    capacity: Spanned<CapacityFile> = spanned;
    /// Decide and record, but don't enforce.
    shadow_mode: Spanned<bool> = flag;
    /// Refuse only if every quota rule of the request is over.
    quota_mode: Spanned<bool> = flag;
    /// Accepted for envoyproxy/ratelimit's sake: values of requests never become metrics here.
    detailed_metric: Spanned<bool> = flag;
    /// Accepted for envoyproxy/ratelimit's sake: values of requests never become metrics here.
    value_to_metric: Spanned<bool> = flag;
    /// All values that match this rule's `*` share one counter.
    share_threshold: Spanned<bool> = flag;
    /// Goes into the answer's dynamic metadata when the descriptor passes.
    #[schemars(with = "Option<serde_json::Map<String, serde_json::Value>>")]
    metadata: Vec<(Node, Node)> = metadata;
    /// Rules for the descriptor's next entry.
    descriptors: Vec<RuleFile> = list;
}

map! {
    /// One limit, as envoyproxy/ratelimit writes it.
    pub struct RateLimitFile in "`rate_limit`" checked by check_rate_limit;

    /// How many requests pass in a unit of time.
    requests_per_unit: Spanned<u64> = number::<REQUESTS_MAX>;
    /// second, minute, hour, day, week, month or year.
    unit: Spanned<String> = text;
    /// No limit.
    unlimited: Spanned<bool> = flag;
    /// A name for answers, metrics and `replaces`.
    name: Spanned<String> = rate_limit_name;
    /// Named limits that don't count in a request that meets this rule.
    replaces: Vec<ReplacesFile> = list;
}

map! {
    /// A limit to leave out.
    pub struct ReplacesFile in "`replaces`" at span;

    /// The limit's name.
    #[schemars(required)]
    name: Spanned<String> = text;
}

fn check_rule(file: &RuleFile, reader: &mut Reader<'_>, node: &Node) {
    let is_unnamed = file.key.as_ref().is_none_or(|key| key.value.is_empty());
    if matches!(node.value, Value::Map(_)) && is_unnamed {
        reader.error(start_of(node), "missing `key` in a rule");
    }
}

fn check_rate_limit(file: &RateLimitFile, reader: &mut Reader<'_>, node: &Node) {
    if file.unlimited.as_ref().is_some_and(|unlimited| unlimited.value) {
        return;
    }
    for key in ["unit", "requests_per_unit"].iter().filter(|key| node.get(key).is_none()) {
        reader.error(start_of(node), format!("`{key}` is missing"));
    }
}

/// The name of a `rate_limit`: the reference takes an empty name for none, and one of spaces for a name.
fn rate_limit_name(reader: &mut Reader<'_>, node: &Node, what: &str) -> Option<Spanned<String>> {
    let name = reader.text(node, what)?;
    if !name.value.is_empty() && is_blank(&name.value) {
        let message = "this name is blank: nobody can read it";
        reader.note(Severity::Warning, name.span.clone(), message);
    }
    Some(name)
}

/// Free data that goes into answers.
fn metadata(reader: &mut Reader<'_>, node: &Node, _: &str) -> Option<Vec<(Node, Node)>> {
    let Value::Map(entries) = &node.value else {
        let message = format!("`metadata` must be a map, not {}", node.kind());
        reader.error(node.span.clone(), message);
        return None;
    };
    Some(entries.clone())
}
