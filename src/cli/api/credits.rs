//! The commands of `tollgate quota` for credits: bonuses, gifts and the ledger.

use std::process::ExitCode;

use clap::builder::PossibleValuesParser;
use clap::{ArgMatches, Command, value_parser};
use serde_json::{Value, json};

use super::answer::answer;
use super::args::{
    below, below_arg, domain_arg, entries_json, entry_arg, force, force_arg, given, hits_arg,
    name_arg, object, of_caller, path, segment, text_arg,
};
use super::question::{Question, parts};
use super::table::Column;
use crate::cli::USAGE;

/// What `--until` takes.
pub const UNTIL: &str = "A date (until its end in UTC), or a time such as 2026-12-31T12:00:00Z";

/// For commands that change a caller in the directory.
const CREATE: &str = "create the caller first: PUT /v1/callers/NAME with its tier";

const PRIORITY_MAX: u64 = 100;

/// The commands, in the order of the help.
pub fn commands() -> [Command; 4] {
    [grant_command(), gift_command(), gift_status_command(), ledger_command()]
}

/// Runs a command.
pub fn run(name: &str, matches: &ArgMatches) -> ExitCode {
    match name {
        "grant" => answer(matches, grant),
        "gift" => answer(matches, gift),
        "gift-status" => answer(matches, gift_status),
        "ledger" => answer(matches, ledger),
        _ => ExitCode::from(USAGE),
    }
}

fn grant_command() -> Command {
    of_caller("grant", "Give a caller a bonus on a limit")
        .arg(text_arg("limit", "LIMIT").required(true).help("Name of the limit"))
        .arg(
            text_arg("amount", "HITS")
                .required(true)
                .value_parser(value_parser!(u64).range(1..))
                .help("Extra hits; of a bonus that recurs, in each period"),
        )
        .arg(text_arg("until", "TIME").help(UNTIL))
        .arg(
            text_arg("priority", "NUMBER")
                .value_parser(value_parser!(u64).range(0..=PRIORITY_MAX))
                .help("Of bonuses that end together, the lowest is spent first; 50 if absent"),
        )
        .arg(
            text_arg("every", "PERIOD")
                .value_parser(PossibleValuesParser::new(["hour", "day", "week", "month", "year"]))
                .help("Its hits come anew with each such period of UTC"),
        )
        .arg(
            text_arg("rollover", "HITS")
                .value_parser(value_parser!(u64))
                .requires("every")
                .help("What is left of a period is carried into the next one, up to so many hits"),
        )
        .arg(text_arg("id", "ID").help("Name of the bonus; generated if absent"))
        .arg(force_arg())
}

fn gift_command() -> Command {
    of_caller("gift", "Give hits of a caller's bonus to another caller")
        .arg(name_arg("to", "TO").help("The caller that gets the hits"))
        .arg(hits_arg())
        .arg(text_arg("limit", "LIMIT").required(true).help("Name of the limit"))
        .arg(
            text_arg("id", "ID")
                .help("Name of the gift, which is made once however often it is sent"),
        )
        .arg(
            text_arg("bonus", "ID")
                .help("The bonus to take from; if absent, the first that has the hits"),
        )
        .arg(domain_arg())
        .arg(entry_arg())
}

fn gift_status_command() -> Command {
    of_caller("gift-status", "Show a gift of a caller")
        .arg(name_arg("id", "ID").help("Id of the gift"))
}

fn ledger_command() -> Command {
    of_caller("ledger", "Explain what remains of each limit of a caller, entry by entry")
        .arg(domain_arg())
        .arg(entry_arg())
        .arg(below_arg())
}

fn grant(matches: &ArgMatches) -> Question {
    let rollover = matches.get_one::<u64>("rollover").map(|max| json!({ "max": max }));
    let fields = [
        ("limit", text(matches, "limit")),
        ("amount", number(matches, "amount")),
        ("until", text(matches, "until")),
        ("priority", number(matches, "priority")),
        ("every", text(matches, "every")),
        ("rollover", rollover),
        ("id", text(matches, "id")),
    ];
    Question {
        query: force(matches).into_iter().collect(),
        hint: Some(CREATE),
        ..post(matches, "bonuses", fields)
    }
}

fn gift(matches: &ArgMatches) -> Question {
    let fields = [
        ("to", text(matches, "to")),
        ("limit", text(matches, "limit")),
        ("hits", number(matches, "hits")),
        ("id", text(matches, "id")),
        ("bonus", text(matches, "bonus")),
        ("domain", text(matches, "domain")),
        ("entries", entries_json(matches)),
    ];
    post(matches, "gifts", fields)
}

fn gift_status(matches: &ArgMatches) -> Question {
    let below = format!("gifts/{}", segment(given(matches, "id")));
    Question { method: "GET", path: path(matches, &below), ..Question::default() }
}

fn ledger(matches: &ArgMatches) -> Question {
    let domain = matches.get_one::<String>("domain").map(|domain| ("domain", domain.clone()));
    let entries = entries_json(matches).map(|entries| ("entries", entries.to_string()));
    Question {
        method: "GET",
        path: path(matches, "ledger"),
        query: domain.into_iter().chain(entries).chain(below(matches)).collect(),
        columns: vec![
            Column::text("domain", "/domain"),
            Column::text("limit", "/limit"),
            Column::text("account", "/account"),
            Column::number("balance", "/balance"),
            Column::text("kind", "/entry/kind"),
            Column::number("hits", "/entry/hits"),
            Column::text("bonus", "/entry/bonus"),
            Column::text("gift", "/entry/gift"),
            Column::text("with", "/entry/with"),
            Column::text("at", "/entry/at"),
        ],
        rows: Some(|ledger| parts(ledger, "items", ("entries", "entry"))),
        ..Question::default()
    }
}

fn post<const N: usize>(
    matches: &ArgMatches,
    below: &str,
    fields: [(&str, Option<Value>); N],
) -> Question {
    let given = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Question {
        method: "POST",
        path: path(matches, below),
        body: Some(object(given)),
        ..Question::default()
    }
}

fn text(matches: &ArgMatches, name: &str) -> Option<Value> {
    matches.get_one::<String>(name).map(|text| json!(text))
}

fn number(matches: &ArgMatches, name: &str) -> Option<Value> {
    matches.get_one::<u64>(name).map(|number| json!(number))
}
