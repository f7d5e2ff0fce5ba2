//! Answers as tables for people, and as JSON, YAML and CSV for programs.

use clap::ArgMatches;
use serde_json::Value;

use super::question::Question;
use super::table::{Column, table};
use crate::printable;

/// How an answer is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Table,
    Json,
    Yaml,
    Csv,
}

impl Format {
    /// Their names in `--output`.
    pub const NAMES: [&str; 4] = ["table", "json", "yaml", "csv"];

    /// The format that a command was given.
    pub fn of(matches: &ArgMatches) -> Self {
        match matches.get_one::<String>("output").map(String::as_str) {
            Some("json") => Self::Json,
            Some("yaml") => Self::Yaml,
            Some("csv") => Self::Csv,
            _ => Self::Table,
        }
    }
}

/// The answer to a question in a format, without the last line break. Tables and CSV have the columns of its items.
pub fn render(format: Format, answer: &Value, question: &Question) -> String {
    if let Value::String(text) = answer {
        // The API has made CSV of it.
        return printable::lines(text.replace("\r\n", "\n").trim_end()).into_owned();
    }
    let rows = question.rows.map(|rows| rows(answer));
    let Some(items) = rows.as_ref().or_else(|| items(answer)) else {
        // One thing, such as a caller or a bonus.
        return match format {
            Format::Json => printable::json(&format!("{answer:#}")).into_owned(),
            Format::Table | Format::Yaml | Format::Csv => yaml(answer),
        };
    };
    let columns = question.columns.iter().filter(|one| one.is_in(answer)).cloned();
    let columns: Vec<Column> = columns.collect();
    match format {
        Format::Json => printable::json(&format!("{answer:#}")).into_owned(),
        Format::Yaml => yaml(answer),
        Format::Csv => csv(items, &columns),
        Format::Table => table(answer, items, &columns),
    }
}

/// The items of a list, or the limits of a refusal or of a provider.
fn items(answer: &Value) -> Option<&Vec<Value>> {
    // Those of an API key are texts: a part of one thing.
    let are_rows = |limits: &&Value| limits.get(0).is_none_or(Value::is_object);
    let limits = || answer.pointer("/refusal/limits").or_else(|| answer.get("limits"));
    answer.get("items").or_else(|| limits().filter(are_rows))?.as_array()
}

fn yaml(answer: &Value) -> String {
    // JSON is YAML; that it can't be written would be a fault of the library.
    let text = serde_saphyr::to_string(answer).unwrap_or_else(|_| format!("{answer:#}"));
    printable::lines(text.trim_end()).into_owned()
}

/// As RFC 4180 says, but for line ends of Unix.
fn csv(items: &[Value], columns: &[Column]) -> String {
    let mut lines = vec![columns.iter().map(|column| column.name()).collect::<Vec<_>>().join(",")];
    for item in items {
        let cells = columns.iter().map(|column| match column.is_text(item) {
            true => printable::csv_text(&column.plain(item)),
            false => column.plain(item),
        });
        lines.push(cells.collect::<Vec<_>>().join(","));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_answer_has_the_same_values_in_each_format() {
        let answer =
            json!({ "items": [{ "limit": "a,\"b\"", "hits": { "spent": 7 }, "at": null }] });
        let columns = vec![Column::text("limit", "/limit"), Column::number("spent", "/hits/spent")];
        let question = Question { columns, ..Question::default() };
        assert_eq!(render(Format::Csv, &answer, &question), "limit,spent\n\"a,\"\"b\"\"\",7");
        let json: Value = serde_json::from_str(&render(Format::Json, &answer, &question)).unwrap();
        assert_eq!(json, answer);
        let yaml = render(Format::Yaml, &answer, &question);
        assert!(yaml.contains("spent: 7"), "{yaml}");
        let table = render(Format::Table, &answer, &question);
        assert!(table.contains("SPENT") && table.contains("a,\"b\""), "{table}");
    }

    #[test]
    fn an_api_key_with_limits_of_its_own_is_one_thing() {
        let answer = json!({ "api_key": "shop_1", "limits": ["2/minute"] });
        for format in [Format::Table, Format::Csv, Format::Yaml] {
            let text = render(format, &answer, &Question::default());
            assert!(text.contains("shop_1") && text.contains("2/minute"), "{text}");
        }
    }

    #[test]
    fn csv_has_no_formulas_and_keeps_negative_numbers() {
        let answer = json!({ "items": [{ "caller": "=1+1", "change": -5 }] });
        let columns = vec![Column::text("caller", "/caller"), Column::number("change", "/change")];
        let question = Question { columns, ..Question::default() };
        assert_eq!(render(Format::Csv, &answer, &question), "caller,change\n'=1+1,-5");
    }

    #[test]
    fn what_a_caller_is_called_does_not_act_on_the_terminal() {
        let answer = json!({ "items": [{ "caller": "\u{1b}[2Jeve\nx" }] });
        let columns = vec![Column::text("caller", "/caller")];
        let question = Question { columns, ..Question::default() };
        for format in [Format::Table, Format::Json, Format::Yaml, Format::Csv] {
            let text = render(format, &answer, &question);
            assert!(!text.contains('\u{1b}'), "{format:?}: {text}");
        }
    }
}
