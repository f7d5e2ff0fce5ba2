//! Reads a caller file, with all problems.

use std::collections::BTreeMap;
use std::ops::Range;

use super::bonus_form::{BonusForm, EveryForm, RolloverForm};
use super::form::{CallerForm, check_caller_name};
use super::names::CallerNames;
use super::overrides::{OverrideForm, OverrideUntilForm};
use crate::limit::{AMOUNT_MAX, BONUS_PRIORITY_MAX};
use crate::policy::model::Caller;
use crate::policy::problem::{Severity, Source};
use crate::policy::yaml::{Node, Reader, Shape, Spanned, Value};

const CALLERS: Shape = Shape { what: "a file of callers", keys: &["callers"] };
const CALLER: Shape = Shape {
    what: "a caller",
    keys: &[
        "tier",
        "parent",
        "share",
        "pool",
        "roles",
        "overrides",
        "bonuses",
        "disabled",
        "notes",
    ],
};
const OVERRIDE: Shape = Shape { what: "an override", keys: &["amount", "tier", "until"] };
const BONUS: Shape = Shape {
    what: "a bonus",
    keys: &["id", "limit", "amount", "until", "priority", "every", "from", "rollover"],
};
const ROLLOVER: Shape = Shape { what: "`rollover`", keys: &["max"] };

/// The maps in which a misplaced key may be valid.
pub const ELSEWHERE: &[&Shape] = &[&CALLERS, &CALLER, &BONUS, &ROLLOVER, &OVERRIDE];

/// A caller in a file.
#[derive(Debug)]
pub struct Read {
    pub name: Spanned<String>,
    pub caller: Caller,
    /// The place of the parent's name, or else of the caller.
    pub parent: Range<usize>,
}

/// The names in the policies, and the severity of unknown ones.
type Names<'p> = (CallerNames<'p>, Severity);

/// Reads a source. A caller with a problem is omitted, or lacks the invalid part.
pub fn read(reader: &mut Reader<'_>, source: &Source, names: Option<&Names<'_>>) -> Vec<Read> {
    let node = match Node::parse(&source.text) {
        Ok(node) => node,
        Err(error) => {
            reader.error(error.span, error.message);
            return Vec::new();
        }
    };
    if matches!(node.value, Value::Null) {
        reader.error(node.span, "the file is empty; write `callers: {}` for no callers");
        return Vec::new();
    }
    if let (Some(domain), None) = (node.key("domain"), node.key("callers")) {
        let message = "this is a policy, not a file of callers: check it without `--callers`, and serve it \
                       with the setting `policies`";
        reader.error(domain.span.clone(), message);
        return Vec::new();
    }
    let fields = reader.fields(&node, &CALLERS);
    let Some(callers) = fields.get("callers") else { return Vec::new() };
    let entries = entries(reader, callers, "`callers` must be a map of names");
    let mut read = Vec::new();
    for (name, node) in entries {
        let Some(caller) = caller(reader, name, node) else { continue };
        if let Some((names, severity)) = names {
            for flaw in names.check(&caller.caller, None) {
                reader.note(*severity, name_span(node, &flaw.path), flaw.message);
            }
        }
        read.push(caller);
    }
    read
}

fn caller(reader: &mut Reader<'_>, name: &Node, node: &Node) -> Option<Read> {
    let text = reader.free_text(name, "the name of a caller")?;
    if let Err(message) = check_caller_name(&text.value) {
        reader.error(text.span, message);
        return None;
    }
    let form = form(reader, node);
    let caller = form.check().unwrap_or_else(|flaws| {
        for flaw in flaws {
            reader.error(span_of(node, &flaw.path), flaw.message);
        }
        // Its parent may be valid, and it may be a parent of others.
        Caller { parent: form.parent.clone(), ..Caller::default() }
    });
    Some(Read { parent: span_of(node, &["parent".to_owned()]), name: text, caller })
}

fn form(reader: &mut Reader<'_>, node: &Node) -> CallerForm {
    if matches!(node.value, Value::Null) {
        return CallerForm::default();
    }
    let fields = reader.fields(node, &CALLER);
    let mut text = |name: &str| {
        let text = reader.free_text(fields.get(name)?, &format!("`{name}`"));
        text.map(|text| text.value)
    };
    let (tier, parent, share) = (text("tier"), text("parent"), text("share"));
    let notes = text("notes").unwrap_or_default();
    let mut flag = |name: &str| {
        let flag = fields.get(name).and_then(|node| reader.flag(node, &format!("`{name}`")));
        flag.is_some_and(|flag| flag.value)
    };
    let (pool, disabled) = (flag("pool"), flag("disabled"));
    let roles = fields.get("roles").map_or(&[][..], |node| reader.list(node, "`roles`"));
    let roles = roles.iter().filter_map(|node| reader.free_text(node, "a role"));
    let roles = roles.map(|role| role.value).collect();
    let bonuses = fields.get("bonuses").map_or(&[][..], |node| reader.list(node, "`bonuses`"));
    let bonuses = bonuses.iter().filter_map(|node| bonus(reader, node)).collect();
    let overrides = fields.get("overrides").map(|node| overrides(reader, node)).unwrap_or_default();
    CallerForm { tier, parent, share, pool, roles, overrides, bonuses, disabled, notes }
}

fn overrides(reader: &mut Reader<'_>, node: &Node) -> BTreeMap<String, OverrideForm> {
    let mut amounts = BTreeMap::new();
    for (key, value) in
        entries(reader, node, "`overrides` must be a map of limit names and amounts")
    {
        let name = reader.free_text(key, "the name of a limit");
        let amount = override_of(reader, value);
        if let (Some(name), Some(amount)) = (name, amount)
            && amounts.insert(name.value.clone(), amount).is_some()
        {
            reader.error(name.span, format!("duplicate key `{}` in `overrides`", name.value));
        }
    }
    amounts
}

/// None for an override with an invalid form, which has been reported.
fn override_of(reader: &mut Reader<'_>, node: &Node) -> Option<OverrideForm> {
    if !matches!(node.value, Value::Map(_)) {
        let amount = reader.number(node, "an amount", AMOUNT_MAX)?;
        return Some(OverrideForm::Amount(amount.value));
    }
    let fields = reader.fields(node, &OVERRIDE);
    let mut text = |name: &str| {
        let text = reader.free_text(fields.get(name)?, &format!("`{name}`"));
        text.map(|text| text.value)
    };
    let (tier, until) = (text("tier"), text("until"));
    let amount = fields.get("amount").and_then(|node| reader.number(node, "`amount`", AMOUNT_MAX));
    let amount = amount.map(|amount| amount.value);
    Some(OverrideForm::Until(OverrideUntilForm { amount, tier, until }))
}

/// None for a bonus with an invalid form, which has been reported.
fn bonus(reader: &mut Reader<'_>, node: &Node) -> Option<BonusForm> {
    let fields = reader.fields(node, &BONUS);
    if !matches!(node.value, Value::Map(_)) {
        return None;
    }
    for key in ["limit", "amount"] {
        if fields.get(key).is_none() {
            reader.error(node.span.clone(), format!("missing `{key}` in a bonus"));
        }
    }
    let mut text = |name: &str| {
        let text = reader.free_text(fields.get(name)?, &format!("`{name}`"));
        text.map(|text| text.value)
    };
    let (id, limit, until, from) = (text("id"), text("limit"), text("until"), text("from"));
    let amount = reader.number(fields.get("amount")?, "`amount`", AMOUNT_MAX)?.value;
    let priority = fields.get("priority").and_then(|node| {
        reader.number(node, "`priority`", BONUS_PRIORITY_MAX.into()).map(|priority| priority.value)
    });
    let priority = priority.and_then(|priority| u8::try_from(priority).ok());
    let every = fields.get("every").and_then(|node| every(reader, node));
    let rollover = fields.get("rollover").and_then(|node| rollover(reader, node));
    Some(BonusForm { id, limit: limit?, amount, until, priority, every, from, rollover })
}

fn every(reader: &mut Reader<'_>, node: &Node) -> Option<EveryForm> {
    const WORDS: [(&str, EveryForm); 5] = [
        ("hour", EveryForm::Hour),
        ("day", EveryForm::Day),
        ("week", EveryForm::Week),
        ("month", EveryForm::Month),
        ("year", EveryForm::Year),
    ];
    reader.word(node, "`every`", &WORDS).map(|word| word.value)
}

fn rollover(reader: &mut Reader<'_>, node: &Node) -> Option<RolloverForm> {
    let fields = reader.fields(node, &ROLLOVER);
    if !matches!(node.value, Value::Map(_)) {
        return None;
    }
    let Some(max) = fields.get("max") else {
        reader.error(node.span.clone(), "missing `max` in `rollover`");
        return None;
    };
    reader.number(max, "`max`", AMOUNT_MAX).map(|max| RolloverForm { max: max.value })
}

/// The entries of a map with any names.
fn entries<'n>(reader: &mut Reader<'_>, node: &'n Node, what: &str) -> &'n [(Node, Node)] {
    match &node.value {
        Value::Map(entries) => entries,
        Value::Null => &[],
        _ => {
            reader.error(node.span.clone(), format!("{what}, not {}", node.kind()));
            &[]
        }
    }
}

/// The place of a name in the form: an override's name is its key.
fn name_span(node: &Node, path: &[String]) -> Range<usize> {
    let keyed = path.split_last().filter(|(_, above)| *above == ["overrides"]);
    let Some((name, above)) = keyed else { return span_of(node, path) };
    let Value::Map(fields) = &node.value else { return span_of(node, path) };
    let overrides =
        fields.iter().find(|(key, _)| key.scalar() == above.first().map(String::as_str));
    let entries = overrides.and_then(|(_, node)| match &node.value {
        Value::Map(entries) => Some(entries),
        _ => None,
    });
    let key = entries.into_iter().flatten().find(|(key, _)| key.scalar() == Some(name));
    key.map_or_else(|| span_of(node, path), |(key, _)| key.span.clone())
}

/// The span of a place in the form, or of the nearest part around it.
fn span_of(node: &Node, path: &[String]) -> Range<usize> {
    let Some((step, rest)) = path.split_first() else { return node.span.clone() };
    let below = match &node.value {
        Value::Map(entries) => {
            entries.iter().find(|(key, _)| key.scalar() == Some(step)).map(|(_, value)| value)
        }
        Value::List(items) => step.parse::<usize>().ok().and_then(|index| items.get(index)),
        _ => None,
    };
    below.map_or_else(|| node.span.clone(), |node| span_of(node, rest))
}
