//! `tollgate quota`: what a caller has left, whether more would pass, changes of what is spent, and credits.

use std::cmp::Ordering;
use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command, value_parser};
use serde_json::{Map, Value, json};

use super::answer::{answer, client};
use super::args::{
    below, below_arg, domain_arg, entries_json, entry_arg, force, force_arg, hits_arg, name_arg,
    object, of_caller, path, text_arg,
};
use super::question::Question;
use super::table::{Column, WARNING_PERCENT};
use super::{credits, monitor, usage};
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
  tollgate quota report --period day              What was used, as `tollgate report`
  tollgate quota recalculate acme 815 -e resource=users
  tollgate quota grant alice --limit daily --amount 500 --until 2026-12-31
  tollgate quota gift alice bob 50 --limit balance
                                                  Give hits of a bonus to another caller
  tollgate quota ledger alice                     What explains the balance of each limit
  tollgate quota set alice daily 2000             Replace the amount of a limit for this caller
  tollgate quota set alice daily --tier premium --until 2026-12-31
  tollgate quota set alice daily default          The policy's amount again";

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
        .subcommand(usage::report_command())
        .subcommands(credits::commands())
        .subcommand(monitor::command())
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
    of_caller("set", "Replace the amount of a limit for a caller, or remove the replacement")
        .arg(name_arg("limit", "LIMIT").help("Name of the limit"))
        .arg(
            Arg::new("amount")
                .value_name("AMOUNT")
                .required_unless_present("tier")
                .conflicts_with("tier")
                .help("Number of hits, or `default` for the policy's amount"),
        )
        .arg(text_arg("tier", "TIER").help("The amount of this tier, for this limit alone"))
        .arg(text_arg("until", "TIME").help(credits::UNTIL))
        .arg(force_arg())
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
        Some(("report", matches)) => answer(matches, usage::report),
        Some(("monitor", matches)) => monitor::run(matches, client(matches)),
        Some((name, matches)) => credits::run(name, matches),
        None => ExitCode::from(USAGE),
    }
}

fn status(matches: &ArgMatches) -> Question {
    let domain = matches.get_one::<String>("domain").map(|domain| ("domain", domain.clone()));
    let entries = entries_json(matches).map(|entries| ("entries", entries.to_string()));
    Question {
        method: "GET",
        path: path(matches, "quota"),
        query: domain.into_iter().chain(entries).chain(below(matches)).collect(),
        columns: columns(),
        rows: Some(limits),
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
    body.extend(entries_json(matches).map(|entries| ("entries".to_owned(), entries)));
    Question {
        method: "POST",
        path: path(matches, &format!("quota/{operation}")),
        body: Some(body.into()),
        columns: columns(),
        rows: Some(limits),
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
        query: force(matches).into_iter().collect(),
        body: Some(json!({ "overrides": object([(limit, value)]) })),
        ..Question::default()
    }
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
        Column::text("state", "/state"),
        Column::number("bonuses", "/bonuses"),
        Column::number("held", "/held"),
        Column::number("grace", "/grace/left"),
        Column::text("override", "/override/text"),
    ]
}

/// The limits of an answer, each with its state, and the end of its override.
fn limits(answer: &Value) -> Vec<Value> {
    let mut items = answer["items"].as_array().cloned().unwrap_or_default();
    for item in &mut items {
        let state = state(item);
        let Some(fields) = item.as_object_mut() else { continue };
        fields.insert("state".to_owned(), state.into());
        if let Some(one) = fields.get_mut("override") {
            let until = one["until"].as_str();
            *one = json!({ "text": until.map_or_else(|| "yes".to_owned(), |at| format!("until {at}")) });
        }
    }
    items
}

/// Whether a limit is near its end, at it, or overdrawn.
fn state(limit: &Value) -> &'static str {
    let number = |name: &str| limit[name].as_u64().unwrap_or_default();
    let percent = limit["percent"].as_f64().unwrap_or_default();
    match number("used").cmp(&number("quota")) {
        Ordering::Greater => "over",
        Ordering::Equal => "full",
        Ordering::Less if WARNING_PERCENT <= percent => "near",
        Ordering::Less => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_has_its_state_and_the_end_of_its_override() {
        let check = |item: Value, state: &str, text: Option<&str>| {
            let rows = limits(&json!({ "items": [item] }));
            let [row] = &rows[..] else { panic!("{rows:?}") };
            assert_eq!((&row["state"], row["override"]["text"].as_str()), (&json!(state), text));
        };
        check(json!({ "quota": 10, "used": 7, "percent": 70.0 }), "", None);
        check(json!({ "quota": 10, "used": 8, "percent": 80.0 }), "near", None);
        check(json!({ "quota": 10, "used": 10, "percent": 100.0 }), "full", None);
        check(json!({ "quota": 10, "used": 11, "percent": 110.0 }), "over", None);
        let ever = json!({ "quota": 0, "used": 0, "percent": 100.0, "override": {} });
        check(ever, "full", Some("yes"));
        let until = json!({ "quota": 9, "used": 0, "percent": 0.0, "override": { "until": "2026-12-31T00:00:00Z" } });
        check(until, "", Some("until 2026-12-31T00:00:00Z"));
        // Of something else than a Tollgate.
        assert!(limits(&json!({})).is_empty());
        assert_eq!(limits(&json!({ "items": [7] })), [json!(7)]);
    }
}
