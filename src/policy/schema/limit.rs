//! The types of a limit in a policy file.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::Named;
use super::adjust::AdjustFile;
use super::estimate::EstimateFile;
use super::grace::GraceFile;
use super::idempotency::off;
use super::map::{Read, map, note_missing, start_of};
use super::readers::{flag, number, one, text, texts, word};
use super::schedule::{WhenFile, when};
use super::thresholds::{ThresholdsFile, thresholds};
use super::words::{AlgorithmFile, LeaseFile, ModeFile, OutageFile, OverdraftFile};
use crate::limit::AMOUNT_MAX;
use crate::policy::yaml::{Node, Reader, Spanned, Value};
use crate::printable::is_blank;

/// Maximum number of requests that wait for one counter.
const QUEUE_MAX: u64 = 100_000;

map! {
    /// Defaults for all limits of the file.
    pub struct DefaultsFile in "`defaults`";

    algorithm: Spanned<AlgorithmFile> = word;
    mode: Spanned<ModeFile> = word;
    on_outage: Spanned<OutageFile> = word;
    overdraft: Spanned<OverdraftFile> = word;
    wait: WaitFile = one;
    lease: Spanned<LeaseFile> = word;
    estimate: EstimateFile = one;
    thresholds: ThresholdsFile = thresholds;
    grace: GraceFile = one;
    when: Spanned<Vec<WhenFile>> = when;
}

/// A limit: `AMOUNT/WINDOW`, or a map with that as its `rate`.
#[derive(Clone, Debug, Default)]
pub struct LimitFile {
    pub map: LimitMapFile,
    pub span: Range<usize>,
}

impl JsonSchema for LimitFile {
    fn schema_name() -> Cow<'static, str> {
        "Limit".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let map = generator.subschema_for::<LimitMapFile>();
        schemars::json_schema!({
            "description": "AMOUNT/WINDOW, such as 10/second, 250/15m, 500/month or 3/total; or a map with that as its rate.",
            "anyOf": [{ "type": "string", "pattern": "^ *[0-9_]+ */ *[A-Za-z0-9]+ *$" }, map],
        })
    }
}

impl Read for LimitFile {
    fn read(reader: &mut Reader<'_>, node: &Node) -> Self {
        if node.scalar().is_some() {
            let rate = reader.text(node, "a limit");
            let map = LimitMapFile { rate, ..LimitMapFile::default() };
            return Self { map, span: node.span.clone() };
        }
        Self { map: LimitMapFile::read(reader, node), span: start_of(node) }
    }
}

map! {
    /// A limit as a map.
    pub struct LimitMapFile in "a limit" checked by check;

    /// AMOUNT/WINDOW, such as 10/second, 250/15m, 500/month, 1000 EUR/day or 3/total. With `by_tier`, the rate of the tiers
    /// that are not in it.
    rate: Spanned<String> = text;
    /// The rate of each tier. `none` refuses every request of the tier; `unlimited` is no limit.
    #[schemars(with = "Option<BTreeMap<String, String>>")]
    by_tier: Spanned<Named<Spanned<String>>> = by_tier;
    /// The name in answers, metrics and `replaces`.
    name: Spanned<String> = name;
    /// The algorithm; sliding_window if absent, and calendar for months and years.
    algorithm: Spanned<AlgorithmFile> = word;
    /// The capacity of a full token_bucket, in hits; the amount if absent.
    burst: Spanned<u64> = number::<AMOUNT_MAX>;
    /// The effect of an exhausted limit; enforce if absent.
    mode: Spanned<ModeFile> = word;
    /// The part of the callers for whom it is enforced, such as 25%; the others are warned. All if absent.
    enforce: Spanned<String> = text;
    /// Short for `mode: shadow`.
    shadow: Spanned<bool> = flag;
    /// The answer while Redis is unavailable; error if absent.
    on_outage: Spanned<OutageFile> = word;
    /// The cost table; if absent, a request costs the hits that it asks for.
    cost: Spanned<String> = text;
    /// Whether a charge may exceed the remaining hits, for costs that are known only after the request; none if absent.
    overdraft: Spanned<OverdraftFile> = word;
    /// Whether a request that asks for more hits than are left gets those that are left; false if absent.
    partial: Spanned<bool> = flag;
    /// Hold requests until there is capacity, instead of refusing them.
    wait: WaitFile = one;
    /// Whether a sidecar may take hits ahead and spend them locally; off if absent.
    lease: Spanned<LeaseFile> = word;
    /// Hits that a request holds until its cost is debited after the response; none if absent.
    estimate: EstimateFile = one;
    /// Percentages at which to report use, once in each window; none if absent.
    thresholds: ThresholdsFile = thresholds;
    /// How far the limit may be exceeded for a limited time, from the first breach on; not at all if absent.
    grace: GraceFile = one;
    /// Other amounts by schedule: the first active entry applies. Replaces the `when` of `defaults`.
    when: Spanned<Vec<WhenFile>> = when;
    /// false: each attempt at a request is charged, whatever the rule or the file says of retries.
    #[schemars(extend("const" = false))]
    idempotency: Spanned<bool> = off;
    /// Lowers and raises the limit by a signal.
    adjust: AdjustFile = one;
}

map! {
    /// Settings for requests that are held until there is capacity.
    pub struct WaitFile in "`wait`" requires ["up_to"];

    /// The maximum wait, such as 2s.
    #[schemars(required)]
    up_to: Spanned<String> = text;
    /// Maximum number of requests that wait for one counter; 1000 if absent.
    queue: Spanned<u64> = number::<QUEUE_MAX>;
}

fn check(_: &LimitMapFile, reader: &mut Reader<'_>, node: &Node) {
    if node.get("by_tier").is_none() {
        note_missing(reader, node, &["rate"]);
    }
}

/// Rates by tier.
fn by_tier(
    reader: &mut Reader<'_>,
    node: &Node,
    what: &str,
) -> Option<Spanned<Named<Spanned<String>>>> {
    if matches!(&node.value, Value::Map(entries) if entries.is_empty()) {
        reader.error(node.span.clone(), "`by_tier` is empty; use `rate` alone");
    }
    Some(Spanned { value: texts(reader, node, what)?, span: start_of(node) })
}

/// The name of a limit.
fn name(reader: &mut Reader<'_>, node: &Node, what: &str) -> Option<Spanned<String>> {
    let name = reader.text(node, what)?;
    if is_blank(&name.value) {
        let message = "the name is blank; leave `name` out, or write a visible one";
        reader.error(name.span.clone(), message);
    }
    Some(name)
}
