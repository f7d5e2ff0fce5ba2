//! What a policy file may say of choices: which of several names is the best one for a request.

use std::collections::BTreeMap;

use super::Named;
use super::answer::is_header_name;
use super::map::{Read, map, start_of};
use super::readers::{named, number, spanned, text};
use crate::policy::yaml::{Node, Reader, Spanned, Value};

/// The largest weight.
const WEIGHT_MAX: u64 = 1_000;

map! {
    /// An entry that stands for the best of several values.
    pub struct ChoiceFile in "a choice" requires ["key","value","among"] at span;

    /// The entry's key.
    #[schemars(required)]
    key: Spanned<String> = text;
    /// The entry's value that leaves the choice to Tollgate, such as any.
    #[schemars(required)]
    value: Spanned<String> = text;
    /// What there is to choose from, two to sixteen names; of equally good ones the first is chosen.
    #[schemars(required, with = "Option<BTreeMap<String, CandidateFile>>")]
    among: Spanned<Named<CandidateFile>> = among;
    /// What counts how much; all the same if absent.
    weights: Spanned<WeightsFile> = spanned;
    /// The key of an entry of the request that tells latencies in milliseconds, such as a=120,b=85. It is no
    /// part of a descriptor's path.
    latency_key: Spanned<String> = text;
    /// The header that carries the chosen name to the upstream. Envoy appends it: strip it from what
    /// callers send.
    header: Spanned<String> = header;
}

map! {
    /// A name to choose.
    pub struct CandidateFile in "a name of `among`";

    /// What a request costs there, in any unit that all share, such as 12, 0.35 or 12.50 EUR.
    price: Spanned<String> = text;
    /// How long it takes to answer until something else is known, such as 120ms.
    latency: Spanned<String> = text;
}

map! {
    /// What counts how much; 0 leaves it out, and 1 is what is absent.
    pub struct WeightsFile in "`weights`";

    /// Free capacity.
    capacity: Spanned<u64> = number::<WEIGHT_MAX>;
    /// Short latency.
    latency: Spanned<u64> = number::<WEIGHT_MAX>;
    /// Low price.
    price: Spanned<u64> = number::<WEIGHT_MAX>;
}

/// The names to choose from. Of one there may be nothing to say.
fn among(
    reader: &mut Reader<'_>,
    node: &Node,
    what: &str,
) -> Option<Spanned<Named<CandidateFile>>> {
    let candidate = |reader: &mut Reader<'_>, node: &Node| match node.value {
        Value::Null => Some(CandidateFile::default()),
        _ => Some(CandidateFile::read(reader, node)),
    };
    Some(Spanned { value: named(reader, node, what, candidate), span: start_of(node) })
}

fn header(reader: &mut Reader<'_>, node: &Node, what: &str) -> Option<Spanned<String>> {
    let mut header = reader.text(node, what)?;
    header.value.make_ascii_lowercase();
    if is_header_name(&header.value) {
        return Some(header);
    }
    reader.error(header.span, format!("invalid or reserved header name `{}`", header.value));
    None
}
