//! The types of a rule in a policy file.

use schemars::JsonSchema;

use super::idempotency::{RuleIdempotencyFile, of_rule};
use super::limit::LimitFile;
use super::map::{Read, map, start_of};
use super::readers::{flag, list, names, number, one, spanned, spanned_list, text, word};
use super::reservation::ReservationFile;
use super::sharing::{CapacityFile, OnlyFile};
use super::words::{ModeFile, OutageFile, UnlimitedFile};
use crate::policy::problem::Severity;
use crate::policy::yaml::{Node, Reader, Spanned, Value};
use crate::printable::is_blank;

/// In the place of limits: none applies.
const UNLIMITED: &str = "unlimited";

/// Maximum of `requests_per_unit`, as in envoyproxy/ratelimit.
const REQUESTS_MAX: u64 = u32::MAX as u64;

map! {
    /// A rule: limits for descriptors whose entry has this key, and this value if there is one.
    pub struct RuleFile in "a rule" at span checked by check_rule;

    /// The entry's key.
    #[schemars(required)]
    key: Spanned<String> = text;
    /// The entry's value; `*` matches any text. If absent, any value matches, and each has its own counters.
    value: Spanned<String> = text;
    /// The entry's value is one of these. An exact value, too, takes precedence over wildcards and the like.
    #[schemars(with = "Option<Vec<String>>")]
    one_of: Spanned<Vec<Spanned<String>>> = names;
    /// The entry's value is an address in one of these networks, such as 10.0.0.0/20 or 2001:db8::/32.
    #[schemars(with = "Option<Vec<String>>")]
    cidr: Spanned<Vec<Spanned<String>>> = names;
    /// The entry's value, from its first character to its last, matches this regular expression.
    regex: Spanned<String> = text;
    /// The entry's value is any other than these.
    not: NotFile = one;
    /// One limit in the format of envoyproxy/ratelimit.
    rate_limit: Spanned<RateLimitFile> = spanned;
    /// The limits. All of them apply, in one atomic step. `unlimited`: none applies.
    #[schemars(with = "Option<LimitsSchema>")]
    limits: Spanned<Vec<LimitFile>> = limits;
    /// Whether the limits also apply to every path below this rule.
    cascade: Spanned<bool> = flag;
    /// The answer of this rule's limits while Redis is unavailable; error if absent.
    on_outage: Spanned<OutageFile> = word;
    /// The tiers and priorities that may pass; all if absent.
    only: OnlyFile = one;
    /// Reserved capacity and pressure levels of the limits.
    capacity: Spanned<CapacityFile> = spanned;
    /// Identifies retries for this rule's limits, instead of the settings of the file; false: every attempt is charged.
    idempotency: RuleIdempotencyFile = of_rule;
    /// Reservations of this rule's limits, instead of those of the file.
    reservation: ReservationFile = one;
    /// The mode of the rule's limits and of its `only`; the policy's if absent.
    mode: Spanned<ModeFile> = word;
    /// The part of the callers for whom they are enforced, such as 25%; the others are warned. All if absent.
    enforce: Spanned<String> = text;
    /// Shadow mode: the limits are decided and recorded, not enforced.
    shadow_mode: Spanned<bool> = flag;
    /// The limits are quotas: a request is refused only if all its quotas are used up.
    quota_mode: Spanned<bool> = flag;
    /// The metrics of envoyproxy/ratelimit (setting `reference_metrics`) have the values of all entries, of the busiest.
    detailed_metric: Spanned<bool> = flag;
    /// The metrics of envoyproxy/ratelimit (setting `reference_metrics`) have the values of this entry, of the busiest.
    value_to_metric: Spanned<bool> = flag;
    /// All values that match the `*` of `value` share one counter.
    share_threshold: Spanned<bool> = flag;
    /// Added to the dynamic metadata of the answer if the descriptor passes.
    #[schemars(with = "Option<serde_json::Map<String, serde_json::Value>>")]
    metadata: Vec<(Node, Node)> = metadata;
    /// The rules for the next entry.
    descriptors: Vec<RuleFile> = list;
}

map! {
    /// Values that a rule does not match.
    pub struct NotFile in "`not`" at span;

    /// This one; `*` matches any text.
    value: Spanned<String> = text;
    /// One of these.
    #[schemars(with = "Option<Vec<String>>")]
    one_of: Spanned<Vec<Spanned<String>>> = names;
    /// An address in one of these networks.
    #[schemars(with = "Option<Vec<String>>")]
    cidr: Spanned<Vec<Spanned<String>>> = names;
    /// A match of this regular expression.
    regex: Spanned<String> = text;
}

/// The limits of a rule.
#[derive(JsonSchema)]
#[schemars(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
enum LimitsSchema {
    /// No limit applies.
    Word(UnlimitedFile),
    List(Vec<LimitFile>),
}

impl RuleFile {
    /// Whether it says that no limit applies: `limits: unlimited`.
    pub fn is_exempt(&self) -> bool {
        let limits = self.limits.as_ref().map_or(&[][..], |limits| &limits.value);
        let rate = |limit: &LimitFile| limit.map.rate.as_ref().map(|rate| rate.value.clone());
        limits.len() == 1 && rate(&limits[0]).as_deref() == Some(UNLIMITED)
    }
}

/// The limits of a rule: a list, or the word `unlimited`, which is read as a list of it.
fn limits(reader: &mut Reader<'_>, node: &Node, what: &str) -> Option<Spanned<Vec<LimitFile>>> {
    if node.scalar() == Some(UNLIMITED) {
        return Some(Spanned {
            value: vec![LimitFile::read(reader, node)],
            span: node.span.clone(),
        });
    }
    spanned_list(reader, node, what)
}

map! {
    /// One limit in the format of envoyproxy/ratelimit.
    pub struct RateLimitFile in "`rate_limit`" checked by check_rate_limit;

    /// The amount: the number of requests in a unit of time.
    requests_per_unit: Spanned<u64> = number::<REQUESTS_MAX>;
    /// The window: second, minute, hour, day, week, month or year.
    unit: Spanned<String> = text;
    /// No limit applies.
    unlimited: Spanned<bool> = flag;
    /// The name in answers, metrics and `replaces`.
    name: Spanned<String> = rate_limit_name;
    /// Limits that do not apply to a request that matches this rule.
    replaces: Vec<ReplacesFile> = list;
}

map! {
    /// A limit to replace.
    pub struct ReplacesFile in "`replaces`" at span;

    /// The name of the limit.
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

/// The name of a `rate_limit`: as in the reference, an empty name is no name, and one of spaces is a name.
fn rate_limit_name(reader: &mut Reader<'_>, node: &Node, what: &str) -> Option<Spanned<String>> {
    let name = reader.text(node, what)?;
    if !name.value.is_empty() && is_blank(&name.value) {
        let message = "the name is blank; leave `name` out, or write a visible one";
        reader.note(Severity::Warning, name.span.clone(), message);
    }
    Some(name)
}

/// Free-form data for answers.
fn metadata(reader: &mut Reader<'_>, node: &Node, _: &str) -> Option<Vec<(Node, Node)>> {
    let Value::Map(entries) = &node.value else {
        let message = format!("`metadata` must be a map, not {}", node.kind());
        reader.error(node.span.clone(), message);
        return None;
    };
    Some(entries.clone())
}
