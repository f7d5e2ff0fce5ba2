//! The commands that use the API of a running Tollgate: quotas, providers, usage, forecasts, costs, refusals, erasure.

mod alerts;
mod answer;
mod args;
mod callers;
mod client;
mod costs;
mod credits;
mod keys;
mod monitor;
mod output;
mod provider_controls;
mod providers;
mod question;
mod quota;
mod table;
mod usage;

use std::process::ExitCode;

use clap::{ArgMatches, Command};

use answer::answer;

const ENVIRONMENT: &str = "\
The API is at --api-url, TOLLGATE_API_URL, or the url of a context; else at http://127.0.0.1:8080. Contexts are in \
~/.config/tollgate/contexts.yaml, or the file that TOLLGATE_CONTEXTS names:

  current: prod
  contexts:
    prod: { url: https://tollgate.example.com:8080, token_file: /etc/tollgate/token }

Exit status: 0 if all is well, 1 if not, 2 if the command is invalid, 3 if a quota does not have the hits, or \
not all of them.";

/// The commands, in the order of the help.
pub fn commands() -> Vec<Command> {
    let all = [
        quota::command(),
        providers::command(),
        usage::usage_command(),
        usage::top_command(),
        usage::denials_command(),
        usage::report_command(),
        usage::forecast_command(),
        costs::command(),
        callers::why_command(),
        callers::command(),
        keys::command(),
        alerts::command(),
    ];
    all.into_iter().map(|command| command.after_long_help(ENVIRONMENT)).collect()
}

/// Runs a command, if it is one of these.
pub fn run(name: &str, matches: &ArgMatches) -> Option<ExitCode> {
    Some(match name {
        "quota" => quota::run(matches),
        "providers" => {
            provider_controls::run(matches).unwrap_or_else(|| answer(matches, providers::providers))
        }
        "usage" => answer(matches, usage::usage),
        "top" => answer(matches, usage::top),
        "denials" => answer(matches, usage::denials),
        "report" => answer(matches, usage::report),
        "forecast" => answer(matches, usage::forecast),
        "costs" => answer(matches, costs::costs),
        "why" => callers::run_why(matches),
        "callers" => callers::run(matches),
        "keys" => keys::run(matches),
        "alerts" => alerts::run(matches),
        _ => return None,
    })
}
