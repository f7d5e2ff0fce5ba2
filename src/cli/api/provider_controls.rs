//! `tollgate providers pause` and its siblings: changes of a provider for a while.

use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command, value_parser};
use serde_json::{Map, Value};

use super::answer::answer;
use super::args::{domain_arg, given, name_arg, segment, text_arg, with_common};
use super::question::Question;
use super::table::Column;

/// The subcommands of `tollgate providers`.
pub fn commands() -> [Command; 6] {
    let pause = of_provider("pause", "Answer requests at once that would wait, for a while");
    let resume = of_provider("resume", "End a pause before its time");
    let priority = of_provider("priority", "Give requests another priority, for a while")
        .arg(
            number_arg("priority", "PRIORITY")
                .value_parser(value_parser!(u8).range(1..=4))
                .help("From 1, low, to 4, urgent"),
        )
        .arg(tier_arg())
        .arg(text_arg("entry", "KEY=VALUE").help("Only requests with this entry"));
    let cap = of_provider("cap", "Let only a part of the limits be in use, for a while")
        .arg(
            number_arg("percent", "PERCENT")
                .value_parser(value_parser!(u8).range(0..=99))
                .help("The part of the limit, from 0 to 99"),
        )
        .arg(tier_arg())
        .arg(text_arg("limit", "LIMIT").help("Only this limit; all if absent"));
    let end = of_provider("end", "End a change before its time")
        .arg(Arg::new("id").value_name("ID").required(true).help("Its id, as `changes` lists it"));
    let changes = Command::new("changes").about("List the changes that hold");
    let commands =
        [pause.arg(until_arg()), resume, priority.arg(until_arg()), cap.arg(until_arg())];
    let [pause, resume, priority, cap] = commands;
    [pause, resume, priority, cap, end, changes].map(with_common)
}

/// Runs a subcommand, if it is one of these.
pub fn run(matches: &ArgMatches) -> Option<ExitCode> {
    let (name, matches) = matches.subcommand()?;
    Some(match name {
        "pause" => answer(matches, |matches| make(matches, ("pause", &[]))),
        "priority" => answer(matches, |matches| make(matches, ("priority", &["tier", "entry"]))),
        "cap" => answer(matches, |matches| make(matches, ("cap", &["tier", "limit"]))),
        "resume" => answer(matches, |matches| end(matches, "pause", "the queue goes on")),
        "end" => answer(matches, |matches| end(matches, given(matches, "id"), "ended")),
        _ => answer(matches, |_| changes()),
    })
}

fn of_provider(name: &'static str, about: &'static str) -> Command {
    Command::new(name)
        .about(about)
        .arg(name_arg("provider", "PROVIDER").help("Name of the provider"))
        .arg(domain_arg().help("Its domain, if several have it"))
}

fn number_arg(name: &'static str, value: &'static str) -> Arg {
    Arg::new(name).value_name(value).required(true)
}

fn tier_arg() -> Arg {
    text_arg("tier", "TIER").help("Only requests of callers with this tier")
}

fn until_arg() -> Arg {
    text_arg("until", "TIME").required(true).help(
        "A date (until its end in UTC), or a time such as 2026-12-31T12:00:00Z; within 7 days",
    )
}

fn make(matches: &ArgMatches, (action, texts): (&str, &[&'static str])) -> Question {
    let mut form = Map::from_iter([("action".to_owned(), Value::from(action))]);
    for name in texts.iter().chain(&["domain", "until"]) {
        if let Some(text) = matches.get_one::<String>(name) {
            form.insert((*name).to_owned(), text.as_str().into());
        }
    }
    let number = match action {
        "priority" => Some("priority"),
        "cap" => Some("percent"),
        _ => None,
    };
    if let Some(name) = number {
        let number = matches.get_one::<u8>(name).copied();
        form.insert(name.to_owned(), number.into());
    }
    Question {
        method: "POST",
        path: format!("/v1/providers/{}/controls", segment(given(matches, "provider"))),
        body: Some(form.into()),
        columns: columns(),
        rows: Some(|made| vec![made.clone()]),
        ..Question::default()
    }
}

fn end(matches: &ArgMatches, id: &str, done: &'static str) -> Question {
    let domain = matches.get_one::<String>("domain").map(|domain| ("domain", domain.clone()));
    let provider = segment(given(matches, "provider"));
    Question {
        method: "DELETE",
        path: format!("/v1/providers/{provider}/controls/{}", segment(id)),
        query: domain.into_iter().collect(),
        done: Some(done),
        ..Question::default()
    }
}

fn changes() -> Question {
    let path = "/v1/provider-controls".to_owned();
    Question { method: "GET", path, columns: columns(), ..Question::default() }
}

fn columns() -> Vec<Column> {
    vec![
        Column::text("domain", "/domain"),
        Column::text("provider", "/provider"),
        Column::text("id", "/id"),
        Column::text("action", "/action"),
        Column::text("tier", "/tier"),
        Column::text("entry", "/entry"),
        Column::number("priority", "/priority"),
        Column::text("limit", "/limit"),
        Column::number("percent", "/percent"),
        Column::text("until", "/until"),
        Column::text("by", "/by"),
    ]
}
