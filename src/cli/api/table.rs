//! Tables for people: as wide as the terminal, with colours on a terminal only.

use std::io::{IsTerminal, stdout};

use comfy_table::presets::NOTHING;
use comfy_table::{Attribute, Cell, CellAlignment, Color, ContentArrangement, Table};
use serde_json::Value;

use crate::cli::money::money;
use crate::printable;

/// From this percentage on a limit is shown as nearly used up, and from the second as used up.
pub const WARNING_PERCENT: f64 = 80.0;
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

/// How close a limit is to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Urgency {
    Warning,
    Critical,
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

    /// Whether the value of an item is anything but a number.
    pub fn is_text(&self, item: &Value) -> bool {
        !item.pointer(&self.pointer).is_some_and(Value::is_number)
    }

    /// How close the limit of an item is to its end, if this column says so.
    pub fn urgency(&self, item: &Value) -> Option<Urgency> {
        let percent = item.pointer(&self.pointer).and_then(Value::as_f64)?;
        match self.kind {
            Kind::Percent if CRITICAL_PERCENT <= percent => Some(Urgency::Critical),
            Kind::Percent if WARNING_PERCENT <= percent => Some(Urgency::Warning),
            _ => None,
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
        match self.urgency(item) {
            Some(Urgency::Critical) => cell.fg(Color::Red),
            Some(Urgency::Warning) => cell.fg(Color::Yellow),
            None => cell,
        }
    }
}

/// The items as a table, with what the answer says of all of them below. On a terminal that is too narrow for it, first the
/// columns go that are empty in all items; then each item is a list of its values. No value is ever broken.
pub fn table(answer: &Value, items: &[Value], columns: &[Column]) -> String {
    let mut lines = lines(items, columns, width_of_terminal());
    if items.is_empty() {
        lines.push("nothing found".to_owned());
    }
    lines.extend(remarks(answer));
    lines.join("\n")
}

/// The width of the terminal; None in a pipe, and where the terminal does not tell it.
fn width_of_terminal() -> Option<usize> {
    Table::new().width().map(usize::from).filter(|width| *width != 0)
}

fn lines(items: &[Value], columns: &[Column], width: Option<usize>) -> Vec<String> {
    let all: Vec<&Column> = columns.iter().collect();
    let lines = aligned(items, &all);
    if fits(&lines, width) {
        return lines;
    }
    let is_used = |column: &&Column| items.iter().any(|item| !column.plain(item).is_empty());
    let used: Vec<&Column> = all.into_iter().filter(is_used).collect();
    let lines = aligned(items, &used);
    if fits(&lines, width) {
        return lines;
    }
    items.iter().flat_map(|item| list(item, &used)).collect()
}

/// Each item on a line.
fn aligned(items: &[Value], columns: &[&Column]) -> Vec<String> {
    let mut table = plain_table();
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
    lines_of(&table)
}

/// An item as a list of its values, and an empty line.
fn list(item: &Value, columns: &[&Column]) -> Vec<String> {
    let mut table = plain_table();
    for column in columns.iter().filter(|column| !column.plain(item).is_empty()) {
        let name = Cell::new(column.name.to_uppercase()).add_attribute(Attribute::Bold);
        table.add_row([name, column.cell(item).set_alignment(CellAlignment::Left)]);
    }
    lines_of(&table).into_iter().chain([String::new()]).collect()
}

fn plain_table() -> Table {
    let mut table = Table::new();
    table.load_preset(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    match stdout().is_terminal() {
        true => table.enforce_styling(),
        false => table.force_no_tty(),
    };
    table
}

fn lines_of(table: &Table) -> Vec<String> {
    table.lines().map(|line| line.trim_end().to_owned()).collect()
}

/// Whether no line is wider, without its colours.
fn fits(lines: &[String], width: Option<usize>) -> bool {
    let Some(width) = width else { return true };
    lines.iter().all(|line| shown_len(line) <= width)
}

/// The characters of a line without escape sequences for colours, which end with `m`.
fn shown_len(line: &str) -> usize {
    let mut parts = line.split('\u{1b}');
    let first = parts.next().map_or(0, |text| text.chars().count());
    let shown = |part: &str| part.split_once('m').map_or(0, |(_, text)| text.chars().count());
    first + parts.map(shown).sum::<usize>()
}

/// What makes the numbers less than what they seem to be, and what they mean.
pub fn remarks(answer: &Value) -> Vec<String> {
    let mut remarks = Vec::new();
    if let Some(text) = answer["text"].as_str() {
        remarks.push(printable::line(text).into_owned());
    }
    if answer["scope"] == "sidecar" {
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_narrow_terminal_breaks_no_value() {
        let items =
            [json!({ "caller": "ann-of-the-north", "used": 7, "at": "2026-11-27T10:00:00Z" })];
        let columns = [
            Column::text("caller", "/caller"),
            Column::text("account", "/account"),
            Column::number("used", "/used"),
            Column::text("at", "/at"),
        ];
        let check = |width, expected: &[&str]| {
            let lines: Vec<String> = lines(&items, &columns, width);
            let words = |line: &String| line.split_whitespace().collect::<Vec<_>>().join(" ");
            assert_eq!(lines.iter().map(words).collect::<Vec<_>>(), expected, "{width:?}");
        };
        let whole = ["CALLER ACCOUNT USED AT", "ann-of-the-north - 7 2026-11-27T10:00:00Z"];
        check(None, &whole);
        check(Some(80), &whole);
        check(Some(52), &["CALLER USED AT", "ann-of-the-north 7 2026-11-27T10:00:00Z"]);
        let list = ["CALLER ann-of-the-north", "USED 7", "AT 2026-11-27T10:00:00Z", ""];
        check(Some(40), &list);
        check(Some(1), &list);
    }

    #[test]
    fn colours_have_no_width() {
        assert_eq!(shown_len("\u{1b}[1mUSED\u{1b}[0m  \u{1b}[38;5;9m7 %\u{1b}[39m"), 9);
    }
}
