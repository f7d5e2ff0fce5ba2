//! The signals that end the process: SIGTERM and SIGINT.

use anyhow::Context;
use tokio::select;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Why the process is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// SIGTERM: from a supervisor, which also redirects clients.
    Terminate,
    /// SIGINT: from a keyboard, where a person waits.
    Interrupt,
}

/// The signals to end.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Receives them from now on.
    ///
    /// # Errors
    /// When the system doesn't let us.
    pub fn start() -> anyhow::Result<Self> {
        let start = |kind| signal(kind).context("can't receive signals");
        Ok(Self {
            terminate: start(SignalKind::terminate())?,
            interrupt: start(SignalKind::interrupt())?,
        })
    }

    /// The next one.
    pub async fn next(&mut self) -> Cause {
        select! {
            _ = self.terminate.recv() => Cause::Terminate,
            _ = self.interrupt.recv() => Cause::Interrupt,
        }
    }
}
