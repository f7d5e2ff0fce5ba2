//! The types of `schedules` and `when` in a policy file.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::Named;
use super::map::{Read, map, start_of};
use super::readers::{spanned_list, text, texts};
use crate::policy::yaml::{Node, Reader, Spanned, Value};

map! {
    /// A schedule: a set of times in the policy's time zone. It is active while all of its conditions hold.
    pub struct ScheduleFile in "a schedule" at span checked by check_schedule;

    /// Months, such as may-september, or a list of them.
    months: TextsFile = one_or_many;
    /// Days of the week, such as saturday or monday-friday, or a list of them.
    weekdays: TextsFile = one_or_many;
    /// Hours, such as 09:00-18:00, or a list of them. Hours that cross midnight belong to the day on which they begin.
    hours: TextsFile = one_or_many;
    /// Dates, such as 2026-12-24, 2026-12-24..2027-01-06, or each year 12-24..01-06, or a list of them.
    dates: TextsFile = one_or_many;
    /// Dates on which the schedule is not active.
    except: TextsFile = one_or_many;
}

map! {
    /// The amount of a limit while a schedule is active. The first active entry applies.
    pub struct WhenFile in "an entry of `when`" at span checked by check_when;

    /// The name of a schedule; if absent, the entry has a condition of its own.
    during: Spanned<String> = text;
    /// As in a schedule.
    months: TextsFile = one_or_many;
    /// As in a schedule.
    weekdays: TextsFile = one_or_many;
    /// As in a schedule.
    hours: TextsFile = one_or_many;
    /// As in a schedule.
    dates: TextsFile = one_or_many;
    /// As in a schedule.
    except: TextsFile = one_or_many;
    /// The part of the amount that is allowed, such as 75% or 150%, or by tier; tiers that are not in it skip the
    /// entry.
    scale: Spanned<ByTierFile> = by_tier;
    /// Another rate with the same window, or by tier; tiers that are not in it skip the entry.
    rate: Spanned<ByTierFile> = by_tier;
}

/// A text or a list of texts.
pub type TextsFile = Spanned<ManyFile>;

/// One text or more.
#[derive(Clone, Debug, Default)]
pub struct ManyFile(pub Vec<Spanned<String>>);

/// A text for all tiers, or one for some tiers.
#[derive(Clone, Debug)]
pub enum ByTierFile {
    All(Spanned<String>),
    Tiers(Named<Spanned<String>>),
}

impl JsonSchema for ManyFile {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Texts".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let text = serde_json::json!({ "type": "string" });
        schemars::json_schema!({
            "anyOf": [text, { "type": "array", "items": text, "minItems": 1 }],
        })
    }
}

impl JsonSchema for ByTierFile {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "ByTier".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let text = serde_json::json!({ "type": "string" });
        schemars::json_schema!({
            "anyOf": [text, { "type": "object", "additionalProperties": text, "minProperties": 1 }],
        })
    }
}

impl ByTierFile {
    /// All texts.
    pub fn texts(&self) -> impl Iterator<Item = &Spanned<String>> {
        let (all, tiers) = match self {
            Self::All(text) => (Some(text), &[][..]),
            Self::Tiers(tiers) => (None, tiers.as_slice()),
        };
        all.into_iter().chain(tiers.iter().map(|(_, text)| text))
    }
}

impl ScheduleFile {
    /// Whether it has no condition.
    pub fn is_empty(&self) -> bool {
        let Self { months, weekdays, hours, dates, except, .. } = self;
        [months, weekdays, hours, dates, except].iter().all(|said| said.is_none())
    }
}

impl WhenFile {
    /// The entry's own condition.
    pub fn condition(&self) -> ScheduleFile {
        let Self { months, weekdays, hours, dates, except, span, .. } = self.clone();
        ScheduleFile { months, weekdays, hours, dates, except, span }
    }
}

fn check_schedule(file: &ScheduleFile, reader: &mut Reader<'_>, node: &Node) {
    if matches!(&node.value, Value::Map(entries) if entries.is_empty()) && file.is_empty() {
        let message = "empty schedule; add months, weekdays, hours or dates";
        reader.error(node.span.clone(), message);
    }
}

fn check_when(_: &WhenFile, reader: &mut Reader<'_>, node: &Node) {
    if !matches!(node.value, Value::Map(_)) {
        return;
    }
    check_condition(reader, node);
    let has = |key: &str| node.get(key).is_some();
    match (has("scale"), has("rate")) {
        (true, true) => reader.error(start_of(node), "use `scale` or `rate`, not both"),
        (false, false) => reader.error(start_of(node), "missing `scale` or `rate`"),
        _ => {}
    }
}

/// Notes an entry of a `when` that says no condition, or two.
pub fn check_condition(reader: &mut Reader<'_>, node: &Node) {
    let has = |key: &str| node.get(key).is_some();
    let own = ["months", "weekdays", "hours", "dates", "except"].into_iter().find(|key| has(key));
    match (own, has("during")) {
        (Some(own), true) => {
            reader.error(
                start_of(node),
                format!("use `during` or `{own}` in an entry of `when`, not both"),
            );
        }
        (None, false) => {
            let message =
                "missing condition; add `during: SCHEDULE`, or months, weekdays, hours or dates";
            reader.error(start_of(node), message);
        }
        _ => {}
    }
}

/// The entries of a `when`.
pub fn when<T: Read>(reader: &mut Reader<'_>, node: &Node, what: &str) -> Option<Spanned<Vec<T>>> {
    if matches!(&node.value, Value::List(items) if items.is_empty()) {
        reader.error(node.span.clone(), "`when` is empty");
    }
    spanned_list(reader, node, what)
}

pub fn one_or_many(reader: &mut Reader<'_>, node: &Node, what: &str) -> Option<TextsFile> {
    let many = match &node.value {
        Value::List(items) => {
            if items.is_empty() {
                reader.error(node.span.clone(), format!("{what} is empty"));
            }
            items.iter().filter_map(|item| reader.text(item, "a value")).collect()
        }
        _ => vec![reader.text(node, what)?],
    };
    Some(Spanned { value: ManyFile(many), span: node.span.clone() })
}

fn by_tier(reader: &mut Reader<'_>, node: &Node, what: &str) -> Option<Spanned<ByTierFile>> {
    let value = match &node.value {
        Value::Map(entries) if entries.is_empty() => {
            reader.error(node.span.clone(), format!("{what} is empty"));
            return None;
        }
        Value::Map(_) => ByTierFile::Tiers(texts(reader, node, what)?),
        _ => ByTierFile::All(reader.text(node, what)?),
    };
    Some(Spanned { value, span: start_of(node) })
}
