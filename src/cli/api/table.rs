//! Tables for people: as wide as the terminal, with colours on a terminal only.

use std::io::{IsTerminal, stdout};

use comfy_table::presets::NOTHING;
use comfy_table::{Attribute, Cell, CellAlignment, Color, ContentArrangement, Table};
use serde_json::Value;

use crate::cli::money::money;
use crate::printable;

/// From this percentage on a limit is shown as nearly used up, and from the second as used up.
const WARNING_PERCENT: f64 = 80.0;
const CRITICAL_PERCENT: f64 = 95.0;

/// A column: its name, and where its value is in an item (RFC 6901).
#[derive(Clone, Debug)]
pub struct Column {
    name: String,
    pointer: String,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Number,
    Percent,
    Money,
}

impl Column {
    pub fn text(name: &str, pointer: &str) -> Self {
        Self { name: name.to_owned(), pointer: pointer.to_owned(), kind: Kind::Text }
    }

    pub fn number(name: &str, pointer: &str) -> Self {
        Self { kind: Kind::Number, ..Self::text(name, pointer) }
    }

    /// A percentage of use.
    pub fn percent(name: &str, pointer: &str) -> Self {
        Self { kind: Kind::Percent, ..Self::text(name, pointer) }
    }

    /// Money in millionths, shown in units. It is left out of an answer without a currency.
    pub fn money(name: &str, pointer: &str) -> Self {
        Self { kind: Kind::Money, ..Self::text(name, pointer) }
    }

    /// Whether it is shown for an answer.
    pub fn is_in(&self, answer: &Value) -> bool {
        self.kind != Kind::Money || answer["currency"].is_string()
    }

    /// Its name, as in JSON.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The value of an item, on one line; empty if it has none.
    pub fn plain(&self, item: &Value) -> String {
        match item.pointer(&self.pointer) {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => printable::line(text).into_owned(),
            Some(Value::Number(number)) if self.kind == Kind::Money => {
                number.as_u64().map_or_else(|| number.to_string(), money)
            }
            Some(value) => printable::line(&value.to_string()).into_owned(),
        }
    }

    fn cell(&self, item: &Value) -> Cell {
        let plain = self.plain(item);
        let text = match plain.as_str() {
            "" => "-".to_owned(),
            _ if self.kind == Kind::Percent => format!("{plain} %"),
            _ => plain,
        };
        let cell = Cell::new(text);
        let cell = match self.kind {
            Kind::Text => cell,
            Kind::Number | Kind::Percent | Kind::Money => cell.set_alignment(CellAlignment::Right),
        };
        let percent = item.pointer(&self.pointer).and_then(Value::as_f64);
        match (self.kind, percent) {
            (Kind::Percent, Some(percent)) if CRITICAL_PERCENT <= percent => cell.fg(Color::Red),
            (Kind::Percent, Some(percent)) if WARNING_PERCENT <= percent => cell.fg(Color::Yellow),
            _ => cell,
        }
    }
}

/// The items as a table, with what the answer says of all of them below.
pub fn table(answer: &Value, items: &[Value], columns: &[Column]) -> String {
    let mut table = Table::new();
    table.load_preset(NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    match stdout().is_terminal() {
        true => table.enforce_styling(),
        // In a pipe a line is a line.
        false => table.force_no_tty().set_content_arrangement(ContentArrangement::Disabled),
    };
    table.set_header(columns.iter().map(|column| {
        let cell = Cell::new(column.name.to_uppercase()).add_attribute(Attribute::Bold);
        match column.kind {
            Kind::Text => cell,
            Kind::Number | Kind::Percent | Kind::Money => cell.set_alignment(CellAlignment::Right),
        }
    }));
    for item in items {
        table.add_row(columns.iter().map(|column| column.cell(item)));
    }
    let mut lines: Vec<String> = table.lines().map(|line| line.trim_end().to_owned()).collect();
    if items.is_empty() {
        lines.push("nothing found".to_owned());
    }
    lines.extend(remarks(answer));
    lines.join("\n")
}

/// What makes the numbers less than what they seem to be, and what they mean.
pub fn remarks(answer: &Value) -> Vec<String> {
    let mut remarks = Vec::new();
    if let Some(text) = answer["text"].as_str() {
        remarks.push(printable::line(text).into_owned());
    }
    if let Some(reason) = answer["unavailable"].as_str() {
        remarks.push(format!("only what one sidecar counted: {}", printable::line(reason)));
    } else if answer["scope"] == "sidecar" {
        remarks.push("only what one sidecar counted, the one that answered".to_owned());
    }
    if answer["fallback"] == true {
        remarks.push("Redis is unavailable: only what the sidecar counts alone".to_owned());
    }
    if let Some(granted) = answer["granted"].as_u64() {
        remarks.push(format!("{granted} hits were granted"));
    }
    if let Some(currency) = answer["currency"].as_str() {
        remarks.push(format!("costs are in {}", printable::line(currency)));
    }
    if let Some(dropped) = answer["dropped"].as_u64().filter(|dropped| *dropped != 0) {
        remarks.push(format!("{dropped} requests are in no sum"));
    }
    remarks
}
