//! The errors of settings.

use std::io;
use std::path::PathBuf;

use crate::printable;

/// A problem of the settings.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error("error: can't read the settings file {}: {source}", printable::path(path))]
    Unreadable { path: PathBuf, source: io::Error },
    /// Only the place, without an excerpt: the line may contain a password.
    #[error("error: {place}: {message}")]
    InFile { place: String, message: String },
    #[error("error: {place}: {shown} is invalid; use {expected}")]
    Wrong { place: String, shown: String, expected: &'static str },
    #[error("error: {name} of envoyproxy/ratelimit: {advice}")]
    Refused { name: &'static str, advice: &'static str },
    #[error("error: {name}: unknown setting{suggestion}")]
    Unknown { name: String, suggestion: String },
    #[error("error: {name} requires {other}")]
    Needs { name: &'static str, other: &'static str },
    #[error("error: {name} and {other} can't be combined")]
    Excludes { name: &'static str, other: &'static str },
    #[error("error: can't read the token file {}: {source}", printable::path(path))]
    TokenFile { path: PathBuf, source: io::Error },
    #[error("error: the token file {} is empty", printable::path(path))]
    EmptyToken { path: PathBuf },
    #[error(
        "error: invalid API address `{}`; use one such as http://127.0.0.1:8080",
        printable::line(url)
    )]
    Url { url: String },
    #[error("error: {} has no context `{name}`", place(file))]
    NoContext { name: String, file: String },
}

/// A file of contexts; empty if there is none.
fn place(file: &str) -> &str {
    if file.is_empty() { "the configuration" } else { file }
}
