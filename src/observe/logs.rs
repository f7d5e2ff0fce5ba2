//! Structured logs on the standard error stream, as text for people or as JSON for machines.
//!
//! The stream is written at once, without a queue: no line is written for a request, so a slow reader
//! holds up a reload or a start, not the traffic.

use std::io;
use std::io::IsTerminal;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::audit;
use super::text::TextFields;

/// How a line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    #[default]
    Text,
    Json,
}

/// Starts to log. A second call changes nothing, so that tests can start what they like.
pub fn start(level: LevelFilter, format: Format) {
    // What libraries have to say is for their authors, unless it's a warning.
    let filter = Targets::new()
        .with_default(level.min(LevelFilter::WARN))
        // It warns of each connection of an attacker: his flood must not become one of lines.
        .with_target("h2", level.min(LevelFilter::ERROR))
        .with_target(env!("CARGO_PKG_NAME"), level)
        // A change without a line is what the audit log is there to rule out.
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
