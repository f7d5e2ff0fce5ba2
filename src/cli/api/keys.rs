//! `tollgate keys`: API keys, which are shown once, when they are made or rotated.

use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::{Map, Value, json};

use super::answer::answer;
use super::args::{domain_arg, segment, with_common};
use super::question::Question;
use super::table::Column;
use crate::cli::USAGE;

const EXAMPLES: &str = "\
Examples:
  tollgate keys create acme --scope hotels:read --expires 2027-12-31
  tollgate keys update key_0L7pQ3xWmVzT9 --limit 100/minute --limit 10000/month
  tollgate keys list acme                         Without their texts
  tollgate keys rotate key_0L7pQ3xWmVzT9 --overlap 7d
  tollgate keys disable key_0L7pQ3xWmVzT9         In force everywhere within a second

An API key is shown once, by `create` and `rotate`. See config/api-keys.md.";

/// The longest overlap, in seconds: a year.
const OVERLAP_S_MAX: u64 = 366 * 86_400;

pub fn command() -> Command {
    let create = Command::new("create")
        .about("Create an API key, and show it once")
        .arg(Arg::new("caller").value_name("CALLER").required(true).help("Caller of its requests"));
    let list = Command::new("list")
        .about("List API keys, without their texts")
        .arg(Arg::new("caller").value_name("CALLER").help("Only those of this caller"));
    let rotate = with_id("rotate", "Replace the text of an API key, and show the new one once")
        .arg(
            Arg::new("overlap")
                .long("overlap")
                .value_name("DURATION")
                .default_value("0s")
                .value_parser(overlap)
                .help("How long the earlier text stays valid, such as 30m, 24h or 7d"),
        );
    let commands = [
        with_fields(create)
            .mut_args(|arg| arg.value_parser(not_empty))
            .arg(domain_arg().help("The domain whose policy checks it")),
        list,
        with_id("show", "Show an API key, without its text"),
        with_fields(with_id("update", "Change some fields of an API key")),
        rotate,
        with_id("disable", "Refuse an API key until it is enabled"),
        with_id("enable", "Use a disabled API key again"),
        with_id("delete", "Delete an API key"),
    ];
    Command::new("keys")
        .about("Create, list, change, rotate, disable and delete API keys, over the API")
        .after_help(EXAMPLES)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands(commands.map(with_common))
}

fn with_id(name: &'static str, about: &'static str) -> Command {
    let id = Arg::new("id").value_name("ID").required(true).help("Id of the API key: key_...");
    Command::new(name).about(about).arg(id)
}

/// The fields of an API key. A list is given item by item; in a change an empty text removes a field.
fn with_fields(command: Command) -> Command {
    let text =
        |name: &'static str, value: &'static str| Arg::new(name).long(name).value_name(value);
    let list = |name, value| text(name, value).action(ArgAction::Append);
    command
        .arg(text("name", "TEXT").help("A name for people"))
        .arg(list("scope", "SCOPE").help("What it may do, such as hotels:read; may be repeated"))
        .arg(text("tier", "TIER").help("Tier of its requests, instead of the caller's"))
        .arg(text("expires", "TIME").help("A date, at whose end it expires, or a time"))
        .arg(list("address", "NETWORK").help("From where it may be used; may be repeated"))
        .arg(list("origin", "ORIGIN").help("Whose pages may use it; may be repeated"))
        .arg(
            list("limit", "RATE")
                .help("A limit of its own, such as 100/minute or 5000/total; may be repeated"),
        )
        .arg(
            list("weekdays", "DAYS")
                .help("When it may be used, such as monday-friday; may be repeated"),
        )
        .arg(
            list("hours", "HOURS")
                .help("When it may be used, such as 09:00-18:00; may be repeated"),
        )
        .arg(
            text("timezone", "ZONE").help("The time zone of --weekdays and --hours; UTC if absent"),
        )
}

/// A variable of a shell that is not set must not make an API key that may do more than was meant.
fn not_empty(text: &str) -> Result<String, &'static str> {
    match text.trim().is_empty() {
        true => Err("it is empty; leave it out for an API key without it"),
        false => Ok(text.to_owned()),
    }
}

fn overlap(text: &str) -> Result<u64, &'static str> {
    let wrong = "use a duration up to a year, such as 30m, 24h or 7d";
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let amount: u64 = digits.parse().map_err(|_| wrong)?;
    let unit = match &text[digits.len()..] {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(wrong),
    };
    amount.checked_mul(unit).filter(|seconds| *seconds <= OVERLAP_S_MAX).ok_or(wrong)
}

pub fn run(matches: &ArgMatches) -> ExitCode {
    match matches.subcommand() {
        Some(("create", matches)) => answer(matches, create),
        Some(("list", matches)) => answer(matches, list),
        Some(("show", matches)) => answer(matches, |matches| of(matches, "GET", "")),
        Some(("update", matches)) => answer(matches, update),
        Some(("rotate", matches)) => answer(matches, rotate),
        Some(("disable", matches)) => answer(matches, |matches| disabled(matches, &json!(true))),
        Some(("enable", matches)) => answer(matches, |matches| disabled(matches, &Value::Null)),
        Some(("delete", matches)) => answer(matches, |matches| Question {
            done: Some("deleted"),
            ..of(matches, "DELETE", "")
        }),
        _ => ExitCode::from(USAGE),
    }
}

fn create(matches: &ArgMatches) -> Question {
    let mut form = fields(matches);
    form.insert("caller".to_owned(), text(matches, "caller").into());
    let domain = matches.get_one::<String>("domain").map(|domain| ("domain", domain.clone()));
    Question {
        method: "POST",
        path: "/v1/api-keys".to_owned(),
        query: domain.into_iter().collect(),
        body: Some(form.into()),
        ..Question::default()
    }
}

fn list(matches: &ArgMatches) -> Question {
    let caller = matches.get_one::<String>("caller").map(|caller| ("caller", caller.clone()));
    Question {
        method: "GET",
        path: "/v1/api-keys".to_owned(),
        query: caller.into_iter().collect(),
        columns: vec![
            Column::text("id", "/id"),
            Column::text("caller", "/caller"),
            Column::text("name", "/name"),
            Column::text("tier", "/tier"),
            Column::text("scopes", "/scopes"),
            Column::text("limits", "/limits"),
            Column::text("hint", "/secrets/0/hint"),
            Column::text("pepper", "/secrets/0/pepper"),
            Column::text("created_at", "/created_at"),
            Column::text("expires_at", "/expires_at"),
            Column::text("last_used", "/last_used/at"),
            Column::text("from", "/last_used/address"),
            Column::text("disabled", "/disabled"),
        ],
        ..Question::default()
    }
}

fn update(matches: &ArgMatches) -> Question {
    Question { body: Some(fields(matches).into()), ..of(matches, "PATCH", "") }
}

fn rotate(matches: &ArgMatches) -> Question {
    let overlap = matches.get_one::<u64>("overlap").copied().unwrap_or_default();
    Question { body: Some(json!({ "overlap_s": overlap })), ..of(matches, "POST", "/rotate") }
}

fn disabled(matches: &ArgMatches, value: &Value) -> Question {
    Question { body: Some(json!({ "disabled": value })), ..of(matches, "PATCH", "") }
}

/// A question about one API key.
fn of(matches: &ArgMatches, method: &'static str, operation: &str) -> Question {
    let path = format!("/v1/api-keys/{}{operation}", segment(&text(matches, "id")));
    Question { method, path, ..Question::default() }
}

/// The fields that are given; empty ones are null, which removes them.
fn fields(matches: &ArgMatches) -> Map<String, Value> {
    let mut form = Map::new();
    for (flag, field) in [("name", "name"), ("tier", "tier"), ("expires", "expires_at")] {
        if let Some(text) = matches.get_one::<String>(flag) {
            let value = if text.is_empty() { Value::Null } else { text.as_str().into() };
            form.insert(field.to_owned(), value);
        }
    }
    let lists =
        [("scope", "scopes"), ("address", "addresses"), ("origin", "origins"), ("limit", "limits")];
    for (flag, field) in lists {
        if let Some(texts) = matches.get_many::<String>(flag) {
            let texts: Vec<&String> = texts.filter(|text| !text.is_empty()).collect();
            form.insert(field.to_owned(), json!(texts));
        }
    }
    let when = times(matches);
    if !when.is_empty() {
        let is_removed = when.values().all(Value::is_null);
        form.insert("when".to_owned(), if is_removed { Value::Null } else { when.into() });
    }
    form
}

/// The times at which it may be used, as far as they are given. Empty ones are null.
fn times(matches: &ArgMatches) -> Map<String, Value> {
    let mut when = Map::new();
    for field in ["weekdays", "hours"] {
        if let Some(texts) = matches.get_many::<String>(field) {
            let texts: Vec<&String> = texts.filter(|text| !text.is_empty()).collect();
            let value = if texts.is_empty() { Value::Null } else { json!(texts) };
            when.insert(field.to_owned(), value);
        }
    }
    if let Some(zone) = matches.get_one::<String>("timezone") {
        let value = if zone.is_empty() { Value::Null } else { zone.as_str().into() };
        when.insert("timezone".to_owned(), value);
    }
    when
}

fn text(matches: &ArgMatches, name: &str) -> String {
    matches.get_one::<String>(name).cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overlap_has_a_unit_and_a_bound() {
        for (text, expected) in [("0s", 0), ("30m", 1_800), ("24h", 86_400), ("7d", 604_800)] {
            assert_eq!(overlap(text), Ok(expected), "{text}");
        }
        for wrong in ["", "7", "d", "-1d", "400d", "1w", "99999999999999999999s"] {
            assert!(overlap(wrong).is_err(), "{wrong}");
        }
    }
}
