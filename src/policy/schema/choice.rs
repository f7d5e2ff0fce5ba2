//! The types of `choices` in a policy file.

use std::collections::BTreeMap;

use super::Named;
use super::answer::is_header_name;
use super::map::{Read, map, start_of};
use super::readers::{named, number, spanned, text};
use crate::policy::yaml::{Node, Reader, Spanned, Value};

/// The largest weight.
const WEIGHT_MAX: u64 = 1_000;

map! {
    /// A choice: an entry whose value is replaced by the best of several values.
    pub struct ChoiceFile in "a choice" requires ["key","value","among"] at span;

    /// The entry's key.
    #[schemars(required)]
    key: Spanned<String> = text;
    /// The entry's value that requests a choice, such as any.
    #[schemars(required)]
    value: Spanned<String> = text;
    /// The candidates: two to sixteen names. Of equally good candidates, the first one is chosen.
    #[schemars(required, with = "Option<BTreeMap<String, CandidateFile>>")]
    among: Spanned<Named<CandidateFile>> = among;
    /// Weights of capacity, latency and price; equal if absent.
    weights: Spanned<WeightsFile> = spanned;
    /// The key of an entry that reports latencies in milliseconds, such as a=120,b=85. It is not part of a descriptor's
    /// path.
    latency_key: Spanned<String> = text;
    /// The header for the upstream with the chosen name. Envoy appends it, so remove this header from incoming requests.
    header: Spanned<String> = header;
}

map! {
    /// A candidate of a choice.
    pub struct CandidateFile in "a name of `among`";

    /// The price of a request, in any unit, the same for all candidates, such as 12, 0.35 or 12.50 EUR.
    price: Spanned<String> = text;
    /// The assumed latency until one is reported, such as 120ms.
    latency: Spanned<String> = text;
}

map! {
    /// Weights of a choice: 0 ignores a criterion; 1 if absent.
    pub struct WeightsFile in "`weights`";

    /// Weight of remaining capacity.
    capacity: Spanned<u64> = number::<WEIGHT_MAX>;
    /// Weight of low latency.
    latency: Spanned<u64> = number::<WEIGHT_MAX>;
    /// Weight of a low price.
    price: Spanned<u64> = number::<WEIGHT_MAX>;
}

/// The candidates, by name. The value of a candidate may be empty.
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
