//! `tollgate callers` and `tollgate why`: erases what is kept of a caller, and explains a refusal.

use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command};
use serde_json::json;

use super::answer::answer;
use super::args::{given, name_arg, segment, with_common};
use super::question::Question;
use super::table::Column;
use crate::cli::USAGE;

const ERASE_NOTE: &str = "\
The audit log keeps its lines, without the caller. The answer says in `left` what may be left. If the command fails, repeat it: some of the data may be left.";

const WHY_EXAMPLES: &str = "\
Examples:
  tollgate why 5k3v0m9q2xw7t                      The id in the header X-Refusal-Id, the body or the metadata
  tollgate why 5k3v0m9q2xw7t --output json";

pub fn command() -> Command {
    let erase = Command::new("erase")
        .about("Erase a caller: its record, API keys, counters, gifts, reservations, usage and refusals, and its data in the audit log")
        .after_help(ERASE_NOTE)
        // Requests may have any name, also an empty one.
        .arg(Arg::new("caller").value_name("CALLER").required(true).help("Name of the caller"));
    Command::new("callers")
        .about("Erase what is kept of a caller, over the API")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(with_common(erase))
}

pub fn why_command() -> Command {
    let id = name_arg("id", "ID").help("Id of the refusal");
    let command = Command::new("why")
        .about(
            "Explain a refusal: the limits at that time, and what would have passed, over the API",
        )
        .after_help(WHY_EXAMPLES)
        .arg(id);
    with_common(command)
}

pub fn run(matches: &ArgMatches) -> ExitCode {
    match matches.subcommand() {
        Some(("erase", matches)) => answer(matches, erase),
        _ => ExitCode::from(USAGE),
    }
}

pub fn run_why(matches: &ArgMatches) -> ExitCode {
    answer(matches, why)
}

fn erase(matches: &ArgMatches) -> Question {
    Question {
        method: "POST",
        path: "/v1/erase".to_owned(),
        body: Some(json!({ "caller": given(matches, "caller") })),
        ..Question::default()
    }
}

fn why(matches: &ArgMatches) -> Question {
    Question {
        method: "GET",
        path: format!("/v1/why/{}", segment(given(matches, "id"))),
        columns: vec![
            Column::text("limit", "/limit"),
            Column::text("reason", "/reason"),
            Column::text("mode", "/mode"),
            Column::number("attempted", "/attempted"),
            Column::number("quota", "/quota"),
            Column::number("used", "/used"),
            Column::number("remaining", "/remaining"),
            Column::number("wait_ms", "/wait_ms"),
            Column::number("reset_ms", "/reset_ms"),
        ],
        ..Question::default()
    }
}
