//! What a policy file may say of a limit that follows a signal.

use schemars::{Schema, SchemaGenerator};

use super::Named;
use super::map::{map, start_of};
use super::readers::{text, texts};
use crate::policy::yaml::{Node, Reader, Spanned, Value};

map! {
    /// A limit that is lowered and raised by a signal: between `least` and all of it, at most one `step` each `every`.
    pub struct AdjustFile in "`adjust`" requires ["above", "below", "least"] at span checked by check;

    /// The name under which the signal is reported over HTTP.
    signal: Spanned<String> = text;
    /// In place of `signal`: the entries of a descriptor. The signal is the utilization of its limits, from 0% to 100%.
    #[schemars(with = "Option<std::collections::BTreeMap<String, String>>")]
    utilization: Named<Spanned<String>> = texts;
    /// The limit is lowered while the signal is above this: a number, or a percentage of 1.
    #[schemars(schema_with = "number")]
    above: Spanned<String> = text;
    /// The limit is raised while the signal is below this; in between it stays.
    #[schemars(schema_with = "number")]
    below: Spanned<String> = text;
    /// The least that is left of the limit, such as 20%.
    #[schemars(required)]
    least: Spanned<String> = text;
    /// How much it is lowered or raised at a time; 10% if absent.
    step: Spanned<String> = text;
    /// How often, such as 30s; 10s if absent.
    every: Spanned<String> = text;
    /// How long a signal holds; 1m if absent.
    stale_after: Spanned<String> = text;
    /// Where the limit goes, step by step, when the signal holds no longer; 100% if absent.
    stale: Spanned<String> = text;
}

/// A number, or a percentage.
fn number(_: &mut SchemaGenerator) -> Schema {
    schemars::json_schema!({ "type": ["number", "string"] })
}

fn check(_: &AdjustFile, reader: &mut Reader<'_>, node: &Node) {
    let Value::Map(_) = &node.value else { return };
    let has = |key: &str| node.get(key).is_some();
    match (has("signal"), has("utilization")) {
        (true, true) => reader.error(start_of(node), "use `signal` or `utilization`, not both"),
        (false, false) => reader.error(start_of(node), "missing `signal` or `utilization`"),
        _ => {}
    }
}
