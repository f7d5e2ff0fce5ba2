//! Reads what a policy file says of choices.

use super::ELSEWHERE;
use super::is_header_name;
use super::missing;
use super::sharing::named;
use super::start_of;
use crate::policy::schema::{CandidateFile, ChoiceFile, WEIGHT_MAX, WeightsFile};
use crate::policy::yaml::{Fields, Node, Reader, Shape, Spanned, Value};

const CHOICE: Shape = Shape {
    what: "a choice",
    keys: &["key", "value", "among", "weights", "latency_key", "header"],
    later: &[],
};
const CANDIDATE: Shape =
    Shape { what: "a name to choose", keys: &["price", "latency"], later: &[] };
const WEIGHTS: Shape =
    Shape { what: "`weights`", keys: &["capacity", "latency", "price"], later: &[] };

pub(super) fn choices(reader: &mut Reader<'_>, node: &Node) -> Spanned<Vec<ChoiceFile>> {
    let items = reader.list(node, "`choices`");
    let value = items.iter().map(|item| choice(reader, item)).collect();
    Spanned { value, span: node.span.clone() }
}

fn choice(reader: &mut Reader<'_>, node: &Node) -> ChoiceFile {
    let fields = reader.fields(node, &CHOICE, ELSEWHERE);
    if matches!(node.value, Value::Map(_)) {
        missing(reader, node, &fields, &["key", "value", "among"]);
    }
    let among = |reader: &mut Reader<'_>, node: &Node| {
        let value = named(reader, node, "`among`", |reader, node| Some(candidate(reader, node)));
        Spanned { value, span: start_of(node) }
    };
    ChoiceFile {
        key: text(reader, &fields, "key"),
        value: text(reader, &fields, "value"),
        among: fields.get("among").map(|node| among(reader, node)),
        weights: fields.get("weights").map(|node| weights(reader, node)),
        latency_key: text(reader, &fields, "latency_key"),
        header: header(reader, &fields),
        span: start_of(node),
    }
}

/// A candidate of which there may be nothing to say.
fn candidate(reader: &mut Reader<'_>, node: &Node) -> CandidateFile {
    if matches!(node.value, Value::Null) {
        return CandidateFile::default();
    }
    let fields = reader.fields(node, &CANDIDATE, ELSEWHERE);
    CandidateFile {
        price: text(reader, &fields, "price"),
        latency: text(reader, &fields, "latency"),
    }
}

fn weights(reader: &mut Reader<'_>, node: &Node) -> Spanned<WeightsFile> {
    let fields = reader.fields(node, &WEIGHTS, ELSEWHERE);
    let mut weight =
        |name: &str| reader.number(fields.get(name)?, &format!("`{name}`"), WEIGHT_MAX);
    let value = WeightsFile {
        capacity: weight("capacity"),
        latency: weight("latency"),
        price: weight("price"),
    };
    Spanned { value, span: start_of(node) }
}

fn header(reader: &mut Reader<'_>, fields: &Fields<'_>) -> Option<Spanned<String>> {
    let mut header = text(reader, fields, "header")?;
    header.value.make_ascii_lowercase();
    if is_header_name(&header.value) {
        return Some(header);
    }
    reader.error(header.span, format!("`{}` is no name of a header to add", header.value));
    None
}

fn text(reader: &mut Reader<'_>, fields: &Fields<'_>, name: &str) -> Option<Spanned<String>> {
    reader.text(fields.get(name)?, &format!("`{name}`"))
}
