//! What a policy file may say of a limit.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::Named;
use super::map::{Read, map, note_missing, start_of};
use super::readers::{flag, number, one, text, texts, word};
use super::thresholds::{ThresholdsFile, thresholds};
use super::words::{AlgorithmFile, LeaseFile, ModeFile, OutageFile, OverdraftFile};
use crate::limit::AMOUNT_MAX;
use crate::policy::yaml::{Node, Reader, Spanned, Value};
use crate::printable::is_blank;

/// Requests that may wait for one counter, at most.
const QUEUE_MAX: u64 = 100_000;

map! {
    /// What holds for every limit that does not say otherwise.
    pub struct DefaultsFile in "`defaults`" later ["grace"];

    algorithm: Spanned<AlgorithmFile> = word;
    mode: Spanned<ModeFile> = word;
    on_outage: Spanned<OutageFile> = word;
    overdraft: Spanned<OverdraftFile> = word;
    wait: WaitFile = one;
    lease: Spanned<LeaseFile> = word;
    thresholds: ThresholdsFile = thresholds;
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
    /// A limit with what else there is to say of it.
    pub struct LimitMapFile in "a limit" later ["grace","when"] checked by check;

    /// `AMOUNT/WINDOW`, such as 10/second, 250/15m, 500/month, 1000 EUR/day or 3/total. With `by_tier`, for
    /// the tiers that it does not name.
    rate: Spanned<String> = text;
    /// The rate of each tier; `none` lets the tier not pass at all, `unlimited` is no limit.
    #[schemars(with = "Option<BTreeMap<String, String>>")]
    by_tier: Spanned<Named<Spanned<String>>> = by_tier;
    /// A name for answers, metrics and `replaces`.
    name: Spanned<String> = name;
    /// How the allowance comes back. Absent: lengths slide, months and years follow the calendar.
    algorithm: Spanned<AlgorithmFile> = word;
    /// For a token_bucket: how many hits pass at once when it is full; the amount if absent.
    burst: Spanned<u64> = number::<AMOUNT_MAX>;
    /// What happens to a request that the limit does not have the hits for; enforce if absent.
    mode: Spanned<ModeFile> = word;
    /// Short for `mode: shadow`.
    shadow: Spanned<bool> = flag;
    /// What to answer while the store is out; allow if absent.
    on_outage: Spanned<OutageFile> = word;
    /// The table that says what a request costs; as many hits as it asks for if absent.
    cost: Spanned<String> = text;
    /// What becomes of hits beyond the last ones, for costs that are known only afterwards; none if absent.
    overdraft: Spanned<OverdraftFile> = word;
    /// Wait for capacity instead of refusing.
    wait: WaitFile = one;
    /// Whether each sidecar may take hits ahead and spend them by itself; off if absent.
    lease: Spanned<LeaseFile> = word;
    /// At which parts of the limit to report that so much is used, once in each window; none if absent.
    thresholds: ThresholdsFile = thresholds;
}

map! {
    /// Waiting for capacity instead of refusing.
    pub struct WaitFile in "`wait`" requires ["up_to"];

    /// The longest wait, such as 2s.
    #[schemars(required)]
    up_to: Spanned<String> = text;
    /// How many requests may wait for one counter; 1000 if absent.
    queue: Spanned<u64> = number::<QUEUE_MAX>;
}

fn check(_: &LimitMapFile, reader: &mut Reader<'_>, node: &Node) {
    if node.get("by_tier").is_none() {
        note_missing(reader, node, &["rate"]);
    }
}

/// Rates by tier, with their place.
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

/// The name of a limit, by which people and metrics call it.
fn name(reader: &mut Reader<'_>, node: &Node, what: &str) -> Option<Spanned<String>> {
    let name = reader.text(node, what)?;
    if is_blank(&name.value) {
        let message = "the name is blank; leave `name` out, or write one that can be read";
        reader.error(name.span.clone(), message);
    }
    Some(name)
}
