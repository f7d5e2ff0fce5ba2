//! The arguments that several commands have.

use std::time::Duration;

use clap::builder::{NonEmptyStringValueParser, PossibleValuesParser};
use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use serde_json::{Map, Value};

use super::output::Format;
use crate::settings::some_time;

/// The arguments of all commands that print an answer.
pub fn with_common(command: Command) -> Command {
    with_address(
        command.arg(
            Arg::new("output")
                .long("output")
                .short('o')
                .value_name("FORMAT")
                .value_parser(PossibleValuesParser::new(Format::NAMES))
                .default_value("table")
                .help("Output format"),
        ),
    )
}

/// Where the API is, and how to ask it.
pub fn with_address(command: Command) -> Command {
    let text = |name: &'static str, flag: &'static str, value: &'static str| {
        Arg::new(name).long(flag).value_name(value)
    };
    command
        .arg(text("api_url", "api-url", "URL").help("Address of the API"))
        .arg(
            text("api_token_file", "api-token-file", "PATH")
                .help("File with the token for the API; see `tollgate token`"),
        )
        .arg(
            text("api_ca_file", "api-ca-file", "PATH")
                .help("PEM certificates to trust in place of the public authorities"),
        )
        .arg(text("context", "context", "NAME").help("Context in the file of contexts"))
        .arg(
            duration_arg("timeout", "30s")
                .help("Maximum time for an answer, such as 500ms, 10s or 2m"),
        )
}

/// A flag with a time.
pub fn duration_arg(name: &'static str, default: &'static str) -> Arg {
    let arg = Arg::new(name).long(name).value_name("DURATION");
    arg.default_value(default).value_parser(duration)
}

fn duration(text: &str) -> Result<Duration, &'static str> {
    some_time(text).ok_or("use a duration up to an hour, such as 500ms, 10s or 2m")
}

/// The name of a caller.
pub fn caller_arg() -> Arg {
    name_arg("caller", "CALLER").help("Name of the caller")
}

/// A required name, which is not empty.
pub fn name_arg(name: &'static str, value: &'static str) -> Arg {
    Arg::new(name).value_name(value).required(true).value_parser(NonEmptyStringValueParser::new())
}

/// A command about a caller.
pub fn of_caller(name: &'static str, about: &'static str) -> Command {
    with_common(Command::new(name).about(about).arg(caller_arg()))
}

/// A number of hits, 1 if absent.
pub fn hits_arg() -> Arg {
    Arg::new("hits")
        .value_name("HITS")
        .value_parser(value_parser!(u64).range(1..))
        .default_value("1")
        .help("Number of hits")
}

/// A flag with a text.
pub fn text_arg(name: &'static str, value: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value)
}

/// `--domain`.
pub fn domain_arg() -> Arg {
    Arg::new("domain").long("domain").value_name("DOMAIN").help("Only this domain")
}

/// `--entry`, for [`entries`].
pub fn entry_arg() -> Arg {
    Arg::new("entry")
        .long("entry")
        .short('e')
        .value_name("KEY=VALUE")
        .action(ArgAction::Append)
        .value_parser(entry)
        .help("Another entry of the descriptor, after the caller's; may be repeated")
}

/// `--below`, for [`below`].
pub fn below_arg() -> Arg {
    Arg::new("below")
        .long("below")
        .action(ArgAction::SetTrue)
        .help("Also the limits of the rules below, such as those of all kinds of resources")
}

/// `below=true`, if the flag was given.
pub fn below(matches: &ArgMatches) -> Option<(&'static str, String)> {
    matches.get_flag("below").then(|| ("below", "true".to_owned()))
}

/// `--force`, for [`force`].
pub fn force_arg() -> Arg {
    Arg::new("force")
        .long("force")
        .action(ArgAction::SetTrue)
        .help("Also if no policy has the limit or the tier")
}

/// `force=true`, if the flag was given.
pub fn force(matches: &ArgMatches) -> Option<(&'static str, String)> {
    matches.get_flag("force").then(|| ("force", "true".to_owned()))
}

fn entry(text: &str) -> Result<(String, String), &'static str> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("use KEY=VALUE, such as request_type=search; KEY= for an empty value"),
    }
}

/// The entries that were given.
pub fn entries(matches: &ArgMatches) -> Vec<(String, String)> {
    matches.get_many("entry").unwrap_or_default().cloned().collect()
}

/// The entries that were given, as the API takes them; None without any.
pub fn entries_json(matches: &ArgMatches) -> Option<Value> {
    let entries: Vec<Value> = entries(matches).into_iter().map(|entry| object([entry])).collect();
    (!entries.is_empty()).then(|| entries.into())
}

/// An object of these fields.
pub fn object<V: Into<Value>>(fields: impl IntoIterator<Item = (String, V)>) -> Value {
    fields.into_iter().map(|(name, value)| (name, value.into())).collect::<Map<_, _>>().into()
}

/// A path below that of the caller.
pub fn path(matches: &ArgMatches, below: &str) -> String {
    format!("/v1/callers/{}/{below}", segment(given(matches, "caller")))
}

/// The text of an argument.
pub fn given<'m>(matches: &'m ArgMatches, name: &str) -> &'m str {
    matches.get_one::<String>(name).map_or("", String::as_str)
}

/// A text as a segment of a path.
pub fn segment(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                encoded.push(char::from(byte));
            }
            byte => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    // Some proxies take these for steps between folders.
    match encoded.as_str() {
        "." => "%2E".to_owned(),
        ".." => "%2E%2E".to_owned(),
        _ => encoded,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_segment() {
        assert_eq!(segment("a/b c?ü.-"), "a%2Fb%20c%3F%C3%BC.-");
        assert_eq!([segment("."), segment("..")], ["%2E", "%2E%2E"]);
    }
}
