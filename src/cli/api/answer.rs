//! Runs a command: asks the API, and prints its answer or what is wrong.

use std::process::ExitCode;

use clap::ArgMatches;

use super::client::{Client, ClientError};
use super::output::{self, Format};
use super::question::Question;
use super::table::remarks;
use crate::cli::{PROBLEMS, USAGE, complain, write};
use crate::settings::{AddressParts, ApiAddress};

/// The exit status when a quota does not have the hits.
const EXCEEDED: u8 = 3;

/// Asks what a command asks, and prints the answer.
pub fn answer(matches: &ArgMatches, question: fn(&ArgMatches) -> Question) -> ExitCode {
    let format = Format::of(matches);
    let question = question(matches);
    match client(matches).and_then(|client| client.ask_all(&question)) {
        Ok(value) => {
            if format == Format::Csv {
                // A program reads the lines, a person this.
                remarks(&value).iter().for_each(|remark| complain(remark));
            }
            write(&output::render(format, &value, &question.columns))
        }
        Err(error) => failed(&error),
    }
}

fn client(matches: &ArgMatches) -> Result<Client, ClientError> {
    let text = |name: &str| matches.get_one::<String>(name).cloned();
    let flags = AddressParts {
        url: text("api_url"),
        token_file: text("api_token_file").map(Into::into),
        ca_file: text("api_ca_file").map(Into::into),
    };
    let address = ApiAddress::load(flags, text("context").as_deref())?;
    Client::new(address)
}

/// Prints an error; the exit status says of which kind it is.
fn failed(error: &ClientError) -> ExitCode {
    complain(&format_args!("{error}"));
    ExitCode::from(match error {
        ClientError::Settings(_) => USAGE,
        ClientError::Refused(problem) if problem.is_exceeded() => EXCEEDED,
        _ => PROBLEMS,
    })
}
