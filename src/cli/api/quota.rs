//! `tollgate quota`: what a caller has left, whether more would pass, and changes of what is spent.

use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command, value_parser};
use serde_json::{Map, Value, json};

use super::answer::{answer, client};
use super::args::{
    below, below_arg, caller_arg, domain_arg, entries, entry_arg, segment, with_common,
};
use super::monitor;
use super::question::Question;
use super::table::Column;
use crate::cli::USAGE;

const EXAMPLES: &str = "\
Examples:
  tollgate quota status alice                     Each limit: quota, used, remaining, reset
  tollgate quota validate alice 20 -e request_type=search
                                                  Would 20 more hits pass? Exit status 3 if not
  tollgate quota consume alice 5                  Charge 5 hits as a request does
  tollgate quota release alice 5                  Give them back
  tollgate quota reset alice                      Give all used hits back
  tollgate quota monitor                          Watch the callers nearest to their limits
  tollgate quota recalculate acme 815 -e resource=users
  tollgate quota grant alice --limit daily --amount 500 --until 2026-12-31
  tollgate quota set alice daily 2000             Replace the amount of a limit for this caller
  tollgate quota set alice daily --tier premium --until 2026-12-31
  tollgate quota set alice daily default          The policy's amount again";

const UNTIL: &str = "A date (until its end in UTC), or a time such as 2026-12-31T12:00:00Z";

/// For commands that change a caller in the directory.
const CREATE: &str = "create the caller first: PUT /v1/callers/NAME with its tier";

/// The operations that take hits.
const WITH_HITS: [(&str, &str); 3] = [
    ("validate", "Tell whether more hits would pass; charges nothing"),
    ("consume", "Charge hits as a request does"),
    ("release", "Give hits back"),
];

pub fn command() -> Command {
    let command = Command::new("quota")
        .about("Show and change the quota of a caller, over the API")
        .after_help(EXAMPLES)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(of_limits("status", "Show each limit of a caller").arg(below_arg()));
    let with_hits = WITH_HITS.map(|(name, about)| of_limits(name, about).arg(hits_arg()));
    command
        .subcommands(with_hits)
        .subcommand(of_limits("reset", "Give all used hits back"))
        .subcommand(recalculate_command())
        .subcommand(set_command())
        .subcommand(grant_command())
        .subcommand(monitor::command())
}

/// A command about a caller.
fn of_caller(name: &'static str, about: &'static str) -> Command {
    with_common(Command::new(name).about(about).arg(caller_arg()))
}

/// A command about the limits that entries select.
fn of_limits(name: &'static str, about: &'static str) -> Command {
    of_caller(name, about).arg(domain_arg()).arg(entry_arg())
}

fn recalculate_command() -> Command {
    let counted = Arg::new("counted").value_name("COUNTED").value_parser(value_parser!(u64));
    of_limits("recalculate", "Set the count of a limit that never resets")
        .arg(counted.required(true).help("The true number, counted elsewhere"))
        .arg(
            text_arg("mark", "MARK").help(
                "The `mark` of a status from before the count, which keeps changes made since",
            ),
        )
        .arg(text_arg("limit", "LIMIT").help("Name of the limit, if several apply"))
}

fn set_command() -> Command {
    let required =
        |name: &'static str, value: &'static str| Arg::new(name).value_name(value).required(true);
    of_caller("set", "Replace the amount of a limit for a caller, or remove the replacement")
        .arg(required("limit", "LIMIT").help("Name of the limit"))
        .arg(
            Arg::new("amount")
                .value_name("AMOUNT")
                .required_unless_present("tier")
                .conflicts_with("tier")
                .help("Number of hits, or `default` for the policy's amount"),
        )
        .arg(text_arg("tier", "TIER").help("The amount of this tier, for this limit alone"))
        .arg(text_arg("until", "TIME").help(UNTIL))
}

fn grant_command() -> Command {
    of_caller("grant", "Give a caller a bonus on a limit")
        .arg(text_arg("limit", "LIMIT").required(true).help("Name of the limit"))
        .arg(
            text_arg("amount", "HITS")
                .required(true)
                .value_parser(value_parser!(u64).range(1..))
                .help("Extra hits"),
        )
        .arg(text_arg("until", "TIME").required(true).help(UNTIL))
        .arg(text_arg("id", "ID").help("Name of the bonus; generated if absent"))
}

fn hits_arg() -> Arg {
    Arg::new("hits")
        .value_name("HITS")
        .value_parser(value_parser!(u64).range(1..))
        .default_value("1")
        .help("Number of hits")
}

fn text_arg(name: &'static str, value: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value)
}

pub fn run(matches: &ArgMatches) -> ExitCode {
    match matches.subcommand() {
        Some(("status", matches)) => answer(matches, status),
        Some(("validate", matches)) => answer(matches, |matches| change(matches, "validate")),
        Some(("consume", matches)) => answer(matches, |matches| change(matches, "consume")),
        Some(("release", matches)) => answer(matches, |matches| change(matches, "release")),
        Some(("reset", matches)) => answer(matches, |matches| change(matches, "reset")),
        Some(("recalculate", matches)) => answer(matches, |matches| change(matches, "recalculate")),
        Some(("set", matches)) => answer(matches, set),
        Some(("grant", matches)) => answer(matches, grant),
        Some(("monitor", matches)) => monitor::run(matches, client(matches)),
        _ => ExitCode::from(USAGE),
    }
}

fn status(matches: &ArgMatches) -> Question {
    let domain = matches.get_one::<String>("domain").map(|domain| ("domain", domain.clone()));
    let entries = entries(matches);
    let objects: Vec<Value> = entries.into_iter().map(|entry| object([entry])).collect();
    let entries = (!objects.is_empty()).then(|| ("entries", Value::from(objects).to_string()));
    Question {
        method: "GET",
        path: path(matches, "quota"),
        query: domain.into_iter().chain(entries).chain(below(matches)).collect(),
        columns: columns(),
        ..Question::default()
    }
}

/// An operation on a quota.
fn change(matches: &ArgMatches, operation: &str) -> Question {
    let mut body = Map::new();
    for name in ["hits", "counted"] {
        if let Ok(Some(number)) = matches.try_get_one::<u64>(name) {
            body.insert(name.to_owned(), json!(number));
        }
    }
    for name in ["domain", "mark", "limit"] {
        if let Ok(Some(text)) = matches.try_get_one::<String>(name) {
            body.insert(name.to_owned(), json!(text));
        }
    }
    let entries: Vec<Value> = entries(matches).into_iter().map(|entry| object([entry])).collect();
    if !entries.is_empty() {
        body.insert("entries".to_owned(), entries.into());
    }
    Question {
        method: "POST",
        path: path(matches, &format!("quota/{operation}")),
        body: Some(body.into()),
        columns: columns(),
        ..Question::default()
    }
}

fn set(matches: &ArgMatches) -> Question {
    let text = |name: &str| matches.get_one::<String>(name).map(|text| json!(text));
    let value = match matches.get_one::<String>("amount").map(String::as_str) {
        Some("default") => Value::Null,
        amount => {
            let number = |text: &str| text.parse::<u64>().map_or_else(|_| json!(text), Value::from);
            let fields =
                [("amount", amount.map(number)), ("tier", text("tier")), ("until", text("until"))];
            object(fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))))
        }
    };
    let limit = matches.get_one::<String>("limit").cloned().unwrap_or_default();
    Question {
        method: "PATCH",
        path: path(matches, "quota"),
        body: Some(json!({ "overrides": object([(limit, value)]) })),
        ..Question::default()
    }
}

fn grant(matches: &ArgMatches) -> Question {
    let text = |name: &str| matches.get_one::<String>(name).map(|text| json!(text));
    let amount = matches.get_one::<u64>("amount").map(|amount| json!(amount));
    let fields = [
        ("limit", text("limit")),
        ("amount", amount),
        ("until", text("until")),
        ("id", text("id")),
    ];
    let given = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Question {
        method: "POST",
        path: path(matches, "bonuses"),
        body: Some(object(given)),
        hint: Some(CREATE),
        ..Question::default()
    }
}

fn object<V: Into<Value>>(fields: impl IntoIterator<Item = (String, V)>) -> Value {
    fields.into_iter().map(|(name, value)| (name, value.into())).collect::<Map<_, _>>().into()
}

/// A path below that of the caller.
fn path(matches: &ArgMatches, below: &str) -> String {
    let caller = matches.get_one::<String>("caller").map_or("", String::as_str);
    let path = format!("/v1/callers/{}", segment(caller));
    if below.is_empty() { path } else { format!("{path}/{below}") }
}

fn columns() -> Vec<Column> {
    vec![
        Column::text("domain", "/domain"),
        Column::text("limit", "/limit"),
        Column::text("account", "/account"),
        Column::text("tier", "/tier"),
        Column::number("quota", "/quota"),
        Column::number("used", "/used"),
        Column::number("remaining", "/remaining"),
        Column::percent("percent", "/percent"),
        Column::text("reset_at", "/reset_at"),
        Column::text("mode", "/mode"),
    ]
}
