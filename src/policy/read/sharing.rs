//! Reads what a policy file says of callers, tiers, capacity, costs and waiting.

use crate::limit::AMOUNT_MAX;

use super::ELSEWHERE;
use super::missing;
use super::start_of;
use crate::policy::schema::{
    CallerFile, CapacityFile, CostFile, Named, OnlyFile, PressureFile, PriorityFile, QUEUE_MAX,
    TierFile, WaitFile,
};
use crate::policy::yaml::{Fields, Node, Reader, Shape, Spanned, Value};

const CALLER: Shape = Shape { what: "`caller`", keys: &["key", "tier", "priority"], later: &[] };
const TIER: Shape = Shape { what: "`tier`", keys: &["key", "default"], later: &[] };
const PRIORITY: Shape =
    Shape { what: "`priority`", keys: &["key", "default", "add", "under_pressure"], later: &[] };
pub(super) const CAPACITY: Shape =
    Shape { what: "`capacity`", keys: &["reserve", "pressure"], later: &[] };
const PRESSURE: Shape =
    Shape { what: "a level of `pressure`", keys: &["above", "until", "scale", "only"], later: &[] };
const ONLY: Shape = Shape { what: "`only`", keys: &["tier", "priority"], later: &[] };
const COST: Shape = Shape { what: "a cost", keys: &["when", "hits", "per"], later: &[] };
const WAIT: Shape = Shape { what: "`wait`", keys: &["up_to", "queue"], later: &[] };

/// The largest number that a priority is made of; what comes of it is cut to 1 to 4 anyway.
const ADDEND_MAX: i64 = 4;

pub(super) fn caller(reader: &mut Reader<'_>, node: &Node) -> CallerFile {
    let fields = reader.fields(node, &CALLER, ELSEWHERE);
    if matches!(node.value, Value::Map(_)) {
        missing(reader, node, &fields, &["key"]);
    }
    CallerFile {
        key: text(reader, &fields, "key"),
        tier: fields.get("tier").map(|node| tier(reader, node)),
        priority: fields.get("priority").map(|node| priority(reader, node)),
    }
}

fn tier(reader: &mut Reader<'_>, node: &Node) -> TierFile {
    let fields = reader.fields(node, &TIER, ELSEWHERE);
    TierFile { key: text(reader, &fields, "key"), default: text(reader, &fields, "default") }
}

fn priority(reader: &mut Reader<'_>, node: &Node) -> PriorityFile {
    let fields = reader.fields(node, &PRIORITY, ELSEWHERE);
    let addend = |reader: &mut Reader<'_>, node: &Node| {
        reader.integer(node, "an addend is a whole number", -ADDEND_MAX..=ADDEND_MAX)
    };
    let table = |reader: &mut Reader<'_>, node: &Node| {
        Some(named(reader, node, "a table of `add`", addend))
    };
    PriorityFile {
        key: text(reader, &fields, "key"),
        default: fields.get("default").and_then(|node| level(reader, node, "`default`")),
        add: fields.get("add").map(|node| named(reader, node, "`add`", table)),
        under_pressure: fields.get("under_pressure").and_then(|node| addend(reader, node)),
    }
}

/// A priority.
fn level(reader: &mut Reader<'_>, node: &Node, what: &str) -> Option<Spanned<u64>> {
    let what = format!("{what} is a priority");
    let number = reader.integer(node, &what, 1..=4)?;
    Some(Spanned { value: number.value.unsigned_abs(), span: number.span })
}

/// Names: of tiers, of qualifiers.
pub(super) fn names(
    reader: &mut Reader<'_>,
    node: &Node,
    what: &str,
) -> Spanned<Vec<Spanned<String>>> {
    let items = reader.list(node, what);
    let value = items.iter().filter_map(|item| reader.text(item, "a name")).collect();
    Spanned { value, span: node.span.clone() }
}

/// A map with names of the policy's own.
pub(super) fn named<T>(
    reader: &mut Reader<'_>,
    node: &Node,
    what: &str,
    read: impl Fn(&mut Reader<'_>, &Node) -> Option<T>,
) -> Named<T> {
    let mut named: Named<T> = Vec::new();
    for (key, node) in reader.map(node, what) {
        let Some(name) = reader.text(key, "a name") else { continue };
        if named.iter().any(|(known, _)| known.value == name.value) {
            reader.error(name.span, format!("`{}` occurs twice in {what}", name.value));
        } else if let Some(value) = read(reader, node) {
            named.push((name, value));
        }
    }
    named
}

/// A map of texts.
pub(super) fn texts(reader: &mut Reader<'_>, node: &Node, what: &str) -> Named<Spanned<String>> {
    named(reader, node, what, |reader, node| reader.text(node, "a value"))
}

pub(super) fn capacity(reader: &mut Reader<'_>, node: &Node) -> Spanned<CapacityFile> {
    let fields = reader.fields(node, &CAPACITY, ELSEWHERE);
    let levels = |reader: &mut Reader<'_>, node: &Node| {
        let items = reader.list(node, "`pressure`").iter();
        let value = items.map(|item| pressure(reader, item)).collect();
        Spanned { value, span: node.span.clone() }
    };
    let value = CapacityFile {
        reserve: fields.get("reserve").map(|node| texts(reader, node, "`reserve`")),
        pressure: fields.get("pressure").map(|node| levels(reader, node)),
    };
    Spanned { value, span: start_of(node) }
}

fn pressure(reader: &mut Reader<'_>, node: &Node) -> PressureFile {
    let fields = reader.fields(node, &PRESSURE, ELSEWHERE);
    if matches!(node.value, Value::Map(_)) {
        missing(reader, node, &fields, &["above"]);
    }
    PressureFile {
        above: text(reader, &fields, "above"),
        until: text(reader, &fields, "until"),
        scale: fields.get("scale").map(|node| texts(reader, node, "`scale`")),
        only: fields.get("only").map(|node| only(reader, node)),
        span: start_of(node),
    }
}

pub(super) fn only(reader: &mut Reader<'_>, node: &Node) -> OnlyFile {
    let fields = reader.fields(node, &ONLY, ELSEWHERE);
    let tier = fields.get("tier").map(|node| names(reader, node, "`tier`").value);
    let priority = fields.get("priority").and_then(|node| level(reader, node, "`priority`"));
    let nobody = match &node.value {
        // What stands there instead has been noted.
        Value::Map(entries) if fields.get("priority").is_none() => {
            entries.is_empty() || tier.as_ref().is_some_and(Vec::is_empty)
        }
        _ => false,
    };
    if nobody {
        reader.error(start_of(node), "`only` names nobody; it holds `tier`, `priority` or both");
    }
    OnlyFile { tier, priority }
}

/// Tables of costs, by name.
pub(super) fn costs(reader: &mut Reader<'_>, node: &Node) -> Named<Vec<CostFile>> {
    named(reader, node, "`costs`", |reader, node| {
        let items = reader.list(node, "a table of costs");
        Some(items.iter().map(|item| cost(reader, item)).collect())
    })
}

fn cost(reader: &mut Reader<'_>, node: &Node) -> CostFile {
    let fields = reader.fields(node, &COST, ELSEWHERE);
    if matches!(node.value, Value::Map(_)) {
        missing(reader, node, &fields, &["hits"]);
    }
    CostFile {
        when: fields.get("when").map(|node| texts(reader, node, "`when`")),
        hits: text(reader, &fields, "hits"),
        per: fields.get("per").and_then(|node| reader.number(node, "`per`", AMOUNT_MAX)),
    }
}

pub(super) fn wait(reader: &mut Reader<'_>, node: &Node) -> WaitFile {
    let fields = reader.fields(node, &WAIT, ELSEWHERE);
    if matches!(node.value, Value::Map(_)) {
        missing(reader, node, &fields, &["up_to"]);
    }
    WaitFile {
        up_to: text(reader, &fields, "up_to"),
        queue: fields.get("queue").and_then(|node| reader.number(node, "`queue`", QUEUE_MAX)),
    }
}

fn text(reader: &mut Reader<'_>, fields: &Fields<'_>, name: &str) -> Option<Spanned<String>> {
    reader.text(fields.get(name)?, &format!("`{name}`"))
}
