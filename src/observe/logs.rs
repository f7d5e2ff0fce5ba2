//! Structured logs on the standard error stream, as text for people or as JSON for machines.
//!
//! Lines are written at once, without a queue. No line is written per request, so a slow reader of the stream delays a
//! reload or a start, not requests.

use std::io;
use std::io::IsTerminal;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::audit;
use super::text::TextFields;

/// The format of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    #[default]
    Text,
    Json,
}

/// Starts logging. A second call has no effect, so that tests can call it repeatedly.
pub fn start(level: LevelFilter, format: Format) {
    // Below warnings, messages of libraries are only useful to their authors.
    let filter = Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        // It warns about each connection of an attacker: a flood of connections must not become a flood of lines.
        .with_target("h2", level.min(LevelFilter::ERROR))
        .with_target(env!("CARGO_PKG_NAME"), level)
        // Audit lines must not be filtered: every change needs a line.
        .with_target(audit::TARGET, LevelFilter::INFO);
    let lines = || tracing_subscriber::fmt::layer().with_writer(io::stderr).with_target(false);
    let registry = tracing_subscriber::registry().with(filter);
    let started = match format {
        Format::Text => {
            let lines = lines().with_ansi(io::stderr().is_terminal()).fmt_fields(TextFields);
            registry.with(lines).try_init()
        }
        Format::Json => registry.with(lines().json().flatten_event(true)).try_init(),
    };
    if started.is_err() {
        tracing::debug!("logging has already started");
    }
}
