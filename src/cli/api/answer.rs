//! Runs a command: asks the API, and prints its answer or what is wrong.

use std::process::ExitCode;
use std::time::Duration;

use clap::ArgMatches;
use serde_json::Value;

use super::client::{Client, ClientError};
use super::output::{self, Format};
use super::question::Question;
use super::table::remarks;
use crate::cli::{PROBLEMS, USAGE, complain, write};
use crate::printable;
use crate::settings::{AddressParts, ApiAddress};

/// Maximum time for an answer, unless a flag sets another.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The exit status when a quota does not have the hits, or not all of them.
const EXCEEDED: u8 = 3;

/// Asks what a command asks, and prints the answer.
pub fn answer(matches: &ArgMatches, question: fn(&ArgMatches) -> Question) -> ExitCode {
    let format = Format::of(matches);
    let question = question(matches);
    match client(matches).and_then(|client| client.ask_all(&question)) {
        Ok(Value::Null) => write(question.done.unwrap_or_default()),
        Ok(value) => {
            if format == Format::Csv {
                // A program reads the lines, a person this.
                remarks(&value).iter().for_each(|remark| complain(remark));
            }
            let written = write(&output::render(format, &value, &question));
            if question.is_in_part(&value) { ExitCode::from(EXCEEDED) } else { written }
        }
        Err(error) => {
            if let (ClientError::Refused(refusal), Format::Json) = (&error, format) {
                // Programs read the reason there.
                write(&printable::json(&format!("{:#}", refusal.problem())));
            }
            failed(&error, question.hint)
        }
    }
}

/// The client of the API that the arguments name.
pub fn client(matches: &ArgMatches) -> Result<Client, ClientError> {
    let text = |name: &str| matches.get_one::<String>(name).cloned();
    let flags = AddressParts {
        url: text("api_url"),
        token_file: text("api_token_file").map(Into::into),
        ca_file: text("api_ca_file").map(Into::into),
    };
    let address = ApiAddress::load(flags, text("context").as_deref())?;
    let timeout = matches.get_one::<Duration>("timeout").copied().unwrap_or(TIMEOUT);
    Client::new(address, timeout)
}

/// Prints an error; the exit status says of which kind it is.
fn failed(error: &ClientError, hint: Option<&'static str>) -> ExitCode {
    match (error, hint) {
        (ClientError::Refused(problem), Some(hint)) if problem.is_of_unknown_caller() => {
            complain(&format_args!("{error}; {hint}"));
        }
        _ => complain(&format_args!("{error}")),
    }
    ExitCode::from(match error {
        ClientError::Settings(_) => USAGE,
        ClientError::Refused(problem) if problem.is_exceeded() => EXCEEDED,
        _ => PROBLEMS,
    })
}
