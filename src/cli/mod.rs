//! The command line. Results go to the standard output, errors to the standard error stream. The exit status is 0 for
//! success, 1 for a failure, and 2 for an invalid command line.

mod api;
mod audit;
mod check;
mod completions;
mod explain;
mod money;
mod serve;
mod settings;
mod token;

use std::borrow::Cow;
use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::{fmt, io};

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use crate::app::{SourceFiles, SourceFilesError};
use crate::policy;
use crate::policy::Source;
use crate::printable;
use crate::version::VERSION;

/// The exit status of a failure.
const PROBLEMS: u8 = 1;

/// The exit status if the command line or the settings are invalid.
const USAGE: u8 = 2;

const ABOUT: &str = "A rate-limit and quota sidecar for Envoy";

const LONG_ABOUT: &str = "\
Tollgate implements Envoy's RateLimitService. It reads policies from hot-reloaded YAML files, and counts in memory \
or in a Redis that several processes share.

Without a command, Tollgate serves. Settings come from the file of --config, from environment variables, and from \
the flags below; flags win over variables, and variables over the file.";

const EXAMPLES: &str = "\
Examples:
  tollgate                                        Serve the policies in config/policies
  tollgate --policies /etc/tollgate/policies --redis-url redis://redis:6379
  tollgate check config/policies                  Validate policies
  tollgate explain config/policies basic 'user_id=alice'
  tollgate schema > tollgate.schema.json          For completion and validation in editors
  tollgate token ci --role operator               Create a token for the API
  tollgate quota status alice                     What a caller has left, from a running Tollgate
  tollgate usage --group-by tier,code             Requests of each hour by tier and outcome
  tollgate costs --providers                      Spend, budgets, and what another provider would save
  tollgate keys create acme --scope hotels:read   Create an API key, over the API
  tollgate why 5k3v0m9q2xw7t                      Why a request was refused, by the id in its answer
  tollgate audit verify audit.jsonl*              Verify that no line of the audit log was changed
  tollgate completions bash                       Shell completions; `tollgate man` prints a man page

A policy file has one domain. A limit is written as 10/second, 250/15m or 500/month. See config/README.md.";

/// Runs the command in `args`, which start with the program's name.
pub fn run(args: impl Iterator<Item = OsString>) -> ExitCode {
    match command().try_get_matches_from(args) {
        Ok(matches) => dispatch(&matches),
        Err(error) => {
            // Help and version are errors to clap, with their own stream and status.
            let is_fine = !error.use_stderr();
            let text = error.render().to_string();
            match printable::lines(&text) {
                // The message quotes an argument, so it is escaped. That removes its colours too.
                Cow::Owned(text) => complain(&text.trim_end()),
                Cow::Borrowed(_) => drop(error.print().ok()),
            }
            if is_fine { ExitCode::SUCCESS } else { ExitCode::from(USAGE) }
        }
    }
}

fn dispatch(matches: &ArgMatches) -> ExitCode {
    match matches.subcommand() {
        Some(("audit", matches)) => audit::run(matches),
        Some(("check", matches)) => check::run(matches),
        Some(("completions", matches)) => completions::complete(matches, command()),
        Some(("explain", matches)) => explain::run(matches),
        Some(("man", matches)) => completions::man(matches, command()),
        Some(("schema", matches)) => schema(matches),
        Some(("serve", matches)) => serve::run(matches),
        Some(("settings", _)) => settings::run(),
        Some(("token", matches)) => token::run(matches),
        Some((name, of_command)) => {
            api::run(name, of_command).unwrap_or_else(|| serve::run(matches))
        }
        None => serve::run(matches),
    }
}

fn command() -> Command {
    let command = Command::new(env!("CARGO_PKG_NAME"))
        .version(VERSION)
        .about(ABOUT)
        .long_about(LONG_ABOUT)
        .after_long_help(EXAMPLES)
        .args_conflicts_with_subcommands(true)
        .args(serve::args())
        .subcommand(
            Command::new("serve").about("Serve; same as without a command").args(serve::args()),
        )
        .subcommand(check::command())
        .subcommand(explain::command())
        .subcommand(
            Command::new("schema")
                .about("Print the JSON Schema of the policy language")
                .arg(callers_arg().help("Print the schema of caller files instead"))
                .arg(
                    alerts_arg()
                        .conflicts_with("callers")
                        .help("Print the schema of files of alerts instead"),
                ),
        )
        .subcommand(settings::command())
        .subcommand(token::command())
        .subcommands(api::commands())
        .subcommand(audit::command())
        .subcommand(completions::completions_command())
        .subcommand(completions::man_command());
    let names: Vec<String> =
        command.get_subcommands().map(|command| command.get_name().to_owned()).collect();
    let names = PossibleValuesParser::new(names);
    command.mut_subcommand("man", |man| man.mut_arg("command", |arg| arg.value_parser(names)))
}

/// `--output text` or `--output json`, with the alias `--format`.
fn format_arg() -> Arg {
    Arg::new("format")
        .long("output")
        .short('o')
        .visible_alias("format")
        .value_name("FORMAT")
        .value_parser(PossibleValuesParser::new(["text", "json"]))
        .default_value("text")
        .help("Output format")
}

fn merge_domains_arg() -> Arg {
    Arg::new("merge_domains")
        .long("merge-domains")
        .action(ArgAction::SetTrue)
        .help("Join files with the same domain instead of rejecting them")
}

fn path_arg() -> Arg {
    Arg::new("path")
        .value_name("PATH")
        .required(true)
        .value_parser(value_parser!(PathBuf))
        .help("A policy file, or a directory of policy files")
}

/// `--overlay`, for files that add to the policies.
fn overlay_arg() -> Arg {
    Arg::new("overlay")
        .long("overlay")
        .value_name("PATH")
        .value_parser(value_parser!(PathBuf))
        .action(ArgAction::Append)
        .help("Files that add to the policies, as `policy_overlays` adds to those of an xDS server")
}

/// The files of `--overlay`.
fn overlays(matches: &ArgMatches) -> Result<Vec<Source>, SourceFilesError> {
    if matches.contains_id("overlay") { sources_of(matches, "overlay") } else { Ok(Vec::new()) }
}

fn is_json(matches: &ArgMatches) -> bool {
    matches.get_one::<String>("format").is_some_and(|format| format == "json")
}

/// `--callers`, for caller files instead of policies.
fn callers_arg() -> Arg {
    Arg::new("callers").long("callers").action(ArgAction::SetTrue)
}

/// `--alerts`, for files of alerts instead of policies.
fn alerts_arg() -> Arg {
    Arg::new("alerts").long("alerts").action(ArgAction::SetTrue)
}

fn schema(matches: &ArgMatches) -> ExitCode {
    let is = |name| matches.get_flag(name);
    let schema = match (is("callers"), is("alerts")) {
        (true, _) => policy::callers_schema(),
        (_, true) => policy::alerts_schema(),
        _ => policy::schema(),
    };
    print_json(&format_args!("{schema:#}"))
}

/// The files at the paths of the command line.
fn sources(matches: &ArgMatches) -> Result<Vec<Source>, SourceFilesError> {
    sources_of(matches, "path")
}

/// The files at the paths of one argument.
fn sources_of(matches: &ArgMatches, name: &str) -> Result<Vec<Source>, SourceFilesError> {
    files_of(matches, name).read().sources
}

fn files_of(matches: &ArgMatches, name: &str) -> SourceFiles {
    let paths = matches.get_many::<PathBuf>(name).unwrap_or_default();
    SourceFiles::new(paths.cloned().collect())
}

/// Prints a result.
fn print(text: &dyn fmt::Display) -> ExitCode {
    write(&printable::lines(&text.to_string()))
}

/// Prints a result as JSON.
fn print_json(text: &dyn fmt::Display) -> ExitCode {
    write(&printable::json(&text.to_string()))
}

/// Writes to standard output. A closed pipe is no error.
fn write(text: &str) -> ExitCode {
    let mut stdout = io::stdout();
    match writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            complain(&format_args!("error: can't write to standard output: {error}"));
            ExitCode::from(PROBLEMS)
        }
        Ok(()) | Err(_) => ExitCode::SUCCESS,
    }
}

/// Prints an error.
fn complain(text: &dyn fmt::Display) {
    // If this fails, there is no other place to report it.
    writeln!(io::stderr(), "{}", printable::lines(&text.to_string())).ok();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_holds_together() {
        command().debug_assert();
    }
}
