//! `tollgate alerts`: open alerts and their history, and what people do with them.

use std::process::ExitCode;

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use serde_json::{Map, Value};

use super::answer::answer;
use super::args::{given, name_arg, object, segment, text_arg, with_common};
use super::question::{Question, parts};
use super::table::Column;
use crate::cli::USAGE;

const EXAMPLES: &str = "\
Examples:
  tollgate alerts list                            Open and closed alerts
  tollgate alerts list --state open --severity critical
  tollgate alerts ack 5f0c7d5a1f3e9b20            No repetition, no escalation
  tollgate alerts silence --rule store --until 2026-12-05T06:00:00Z --comment maintenance
  tollgate alerts test quota                      To each channel of the rule
  tollgate alerts test spike --against usage      When it would have fired in the last 30 days
  tollgate alerts risk bot                        How risky a caller is, from 0 to 100, and why
  tollgate alerts dead                            What could not be sent; `resend` sends it

See config/alerts.md.";

const ALERTS: &str = "/v1/alerts";
const SILENCES: &str = "/v1/alerts/silences";

pub fn command() -> Command {
    let list = Command::new("list")
        .about("List open and closed alerts")
        .arg(
            text_arg("state", "STATE")
                .value_parser(PossibleValuesParser::new(["open", "closed"]))
                .help("Only alerts in this state"),
        )
        .arg(text_arg("rule", "RULE").help("Only alerts of this rule"))
        .arg(text_arg("severity", "SEVERITY").help("Only alerts of this severity"))
        .arg(text_arg("caller", "CALLER").help("Only alerts about this caller"));
    let silence = Command::new("silence")
        .about("Hold back notifications for a time, such as maintenance")
        .arg(text_arg("rule", "RULE").help("Only alerts of this rule; all if absent"))
        .arg(
            text_arg("label", "NAME=VALUE")
                .action(ArgAction::Append)
                .value_parser(label)
                .help("Only alerts with this label, such as caller=alice; may be repeated"),
        )
        .arg(text_arg("from", "TIME").help("When it begins; now if absent"))
        .arg(
            text_arg("until", "TIME")
                .required(true)
                .help("A date (until its end in UTC), or a time such as 2026-12-31T12:00:00Z"),
        )
        .arg(text_arg("comment", "TEXT").help("Why, for people"));
    let commands = [
        list,
        with_id("ack", "Acknowledge an alert: it is not repeated or escalated"),
        with_id("resolve", "Resolve an alert; it opens again only after it has ceased to fire"),
        silence,
        Command::new("silences").about("List silences and maintenance windows"),
        with_id("unsilence", "End a silence"),
        risk_command(),
        Command::new("dead").about("List notifications that could not be sent"),
        with_id("resend", "Send such a notification again"),
        Command::new("test")
            .about("Send a test notification to each channel of a rule, or replay it on usage")
            .arg(name_arg("rule", "RULE").help("Name of the rule"))
            .arg(
                text_arg("against", "usage")
                    .value_parser(PossibleValuesParser::new(["usage"]))
                    .help(
                        "Send nothing, and list when the rule would have fired, from stored usage",
                    ),
            )
            .arg(
                text_arg("days", "DAYS")
                    .value_parser(value_parser!(u32).range(1..=90))
                    .requires("against")
                    .help("The days of usage; 30 if absent"),
            ),
    ];
    Command::new("alerts")
        .about("List, acknowledge, resolve, silence and test alerts, over the API")
        .after_help(EXAMPLES)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands(commands.map(with_common))
}

fn risk_command() -> Command {
    Command::new("risk")
        .about("List the callers with the highest risk, or the reasons of one")
        .arg(Arg::new("caller").value_name("CALLER").help("Name of the caller"))
}

fn with_id(name: &'static str, about: &'static str) -> Command {
    Command::new(name)
        .about(about)
        .arg(Arg::new("id").value_name("ID").required(true).help("Its id"))
}

fn label(text: &str) -> Result<(String, String), &'static str> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("use NAME=VALUE, such as caller=alice"),
    }
}

pub fn run(matches: &ArgMatches) -> ExitCode {
    match matches.subcommand() {
        Some(("list", matches)) => answer(matches, list),
        Some(("ack", matches)) => {
            answer(matches, |matches| of(matches, "acknowledge", "acknowledged"))
        }
        Some(("resolve", matches)) => answer(matches, |matches| of(matches, "resolve", "resolved")),
        Some(("silence", matches)) => answer(matches, silence),
        Some(("silences", matches)) => answer(matches, |_| silences()),
        Some(("unsilence", matches)) => answer(matches, unsilence),
        Some(("risk", matches)) => answer(matches, risk),
        Some(("dead", matches)) => answer(matches, |_| dead()),
        Some(("resend", matches)) => answer(matches, resend),
        Some(("test", matches)) => answer(matches, test),
        _ => ExitCode::from(USAGE),
    }
}

fn list(matches: &ArgMatches) -> Question {
    let one =
        |name: &'static str| matches.get_one::<String>(name).map(|value| (name, value.clone()));
    Question {
        method: "GET",
        path: ALERTS.to_owned(),
        query: ["state", "rule", "severity", "caller"].into_iter().filter_map(one).collect(),
        columns: vec![
            Column::text("id", "/id"),
            Column::text("state", "/state"),
            Column::text("severity", "/severity"),
            Column::text("rule", "/rule"),
            Column::text("title", "/title"),
            Column::text("opened_at", "/opened_at"),
            Column::text("closed_at", "/closed_at"),
            Column::text("acknowledged_by", "/acknowledged_by"),
            Column::text("resolved_by", "/resolved_by"),
        ],
        ..Question::default()
    }
}

fn silence(matches: &ArgMatches) -> Question {
    let texts = ["rule", "from", "until", "comment"].into_iter();
    let text =
        |name: &str| Some((name.to_owned(), matches.get_one::<String>(name)?.as_str().into()));
    let mut form: Map<String, Value> = texts.filter_map(text).collect();
    let labels = matches.get_many::<(String, String)>("label").unwrap_or_default().cloned();
    form.insert("labels".to_owned(), object(labels));
    Question {
        method: "POST",
        path: SILENCES.to_owned(),
        body: Some(form.into()),
        ..Question::default()
    }
}

fn silences() -> Question {
    Question {
        method: "GET",
        path: SILENCES.to_owned(),
        rows: Some(silences_and_windows),
        columns: vec![
            Column::text("id", "/id"),
            Column::text("window", "/name"),
            Column::text("rule", "/rule"),
            Column::text("labels", "/labels"),
            Column::text("from", "/from"),
            Column::text("until", "/until"),
            Column::text("times", "/times"),
            Column::text("timezone", "/timezone"),
            Column::text("active", "/active"),
            Column::text("by", "/by"),
            Column::text("comment", "/comment"),
        ],
        ..Question::default()
    }
}

/// The silences, and the maintenance windows with their rules as a text.
fn silences_and_windows(answer: &Value) -> Vec<Value> {
    let of = |list: &str| answer[list].as_array().cloned().unwrap_or_default();
    let mut windows = of("maintenance");
    for window in &mut windows {
        let names = window["rules"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let rules = names.collect::<Vec<_>>().join(", ");
        window["rule"] = Value::from(rules);
    }
    [of("items"), windows].concat()
}

fn unsilence(matches: &ArgMatches) -> Question {
    let path = format!("{SILENCES}/{}", segment(given(matches, "id")));
    Question { method: "DELETE", path, done: Some("ended"), ..Question::default() }
}

fn risk(matches: &ArgMatches) -> Question {
    let reasons = [
        Column::text("rule", "/rule"),
        Column::number("share", "/share"),
        Column::text("title", "/title"),
        Column::text("since", "/since"),
        Column::text("until", "/until"),
        Column::text("alert", "/alert"),
    ];
    let Some(caller) = matches.get_one::<String>("caller") else {
        return Question {
            method: "GET",
            path: "/v1/risks".to_owned(),
            rows: Some(|answer| parts(answer, "items", ("reasons", "reason"))),
            columns: vec![
                Column::text("caller", "/caller"),
                Column::number("risk", "/risk"),
                Column::text("rule", "/reason/rule"),
                Column::number("share", "/reason/share"),
                Column::text("title", "/reason/title"),
            ],
            ..Question::default()
        };
    };
    Question {
        method: "GET",
        path: format!("/v1/callers/{}/risk", segment(caller)),
        rows: Some(|answer| answer["reasons"].as_array().cloned().unwrap_or_default()),
        columns: reasons.to_vec(),
        ..Question::default()
    }
}

fn dead() -> Question {
    Question {
        method: "GET",
        path: "/v1/alerts/notifications".to_owned(),
        columns: vec![
            Column::text("id", "/id"),
            Column::text("channel", "/channel"),
            Column::text("kind", "/kind"),
            Column::text("title", "/title"),
            Column::number("attempts", "/attempts"),
            Column::text("error", "/error"),
            Column::text("at", "/at"),
        ],
        ..Question::default()
    }
}

fn resend(matches: &ArgMatches) -> Question {
    let path = format!("/v1/alerts/notifications/{}/resend", segment(given(matches, "id")));
    Question { method: "POST", path, done: Some("it is sent again"), ..Question::default() }
}

fn test(matches: &ArgMatches) -> Question {
    if matches.contains_id("against") {
        return firings(matches);
    }
    let path = format!("/v1/alerts/rules/{}/test", segment(given(matches, "rule")));
    let done = Some(
        "a test notification is being sent to each channel of the rule; `tollgate alerts dead` lists those that fail",
    );
    Question { method: "POST", path, done, ..Question::default() }
}

fn firings(matches: &ArgMatches) -> Question {
    let days = matches.get_one::<u32>("days").map(|days| ("days", days.to_string()));
    Question {
        method: "GET",
        path: format!("/v1/alerts/rules/{}/firings", segment(given(matches, "rule"))),
        query: days.into_iter().collect(),
        columns: vec![
            Column::text("from", "/from"),
            Column::text("until", "/until"),
            Column::number("value", "/value"),
            Column::text("title", "/title"),
        ],
        is_one_page: true,
        ..Question::default()
    }
}

fn of(matches: &ArgMatches, operation: &str, done: &'static str) -> Question {
    let path = format!("{ALERTS}/{}/{operation}", segment(given(matches, "id")));
    Question { method: "POST", path, done: Some(done), ..Question::default() }
}
