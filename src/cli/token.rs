//! `tollgate token`: creates a token for the API.

use std::process::ExitCode;

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgMatches, Command};

use super::{PROBLEMS, USAGE, complain, print};
use crate::api_token::{ApiToken, Role};
use crate::printable;

/// Random bytes of a token.
const TOKEN_LEN: usize = 32;

const EXAMPLES: &str = "\
Examples:
  tollgate token ci --role operator               May patch callers, add and remove bonuses
  tollgate token dashboard --role viewer          May read

The token is shown once; the settings hold only its hash.";

pub fn command() -> Command {
    Command::new("token")
        .about("Create a token for the API under /v1")
        .after_help(EXAMPLES)
        .arg(
            Arg::new("name")
                .value_name("NAME")
                .required(true)
                .help("Name of the token's owner, for the audit log"),
        )
        .arg(
            Arg::new("role")
                .long("role")
                .value_name("ROLE")
                .required(true)
                .value_parser(PossibleValuesParser::new(Role::NAMES.map(|(name, _)| name)))
                .help("Permissions of the token"),
        )
}

pub fn run(matches: &ArgMatches) -> ExitCode {
    let text = |name: &str| matches.get_one::<String>(name).map_or("", String::as_str);
    let (name, role) = (text("name"), text("role"));
    let Some((_, role)) = Role::NAMES.iter().find(|(word, _)| *word == role) else {
        return ExitCode::from(USAGE);
    };
    if !ApiToken::is_name(name) {
        complain(&format_args!(
            "error: invalid name `{}`; use letters, digits, `-`, `_` and `.`, except the name loopback",
            printable::line(name)
        ));
        return ExitCode::from(USAGE);
    }
    let mut bytes = [0; TOKEN_LEN];
    if let Err(error) = getrandom::fill(&mut bytes) {
        complain(&format_args!("error: generating random bytes failed: {error}"));
        return ExitCode::from(PROBLEMS);
    }
    let token: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let line = ApiToken::new(name, *role, &token);
    print(&format_args!(
        "The token is not stored. Send it as `Authorization: Bearer TOKEN`:\n  {token}\n\n\
         Add this line to `api_tokens` in the settings of each Tollgate:\n  {line}"
    ))
}
