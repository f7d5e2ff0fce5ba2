//! The signals that end the process: SIGTERM and SIGINT.

use anyhow::Context;
use tokio::select;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signal that ends the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// SIGTERM: from a supervisor, which also redirects clients.
    Terminate,
    /// SIGINT: from a keyboard, where a user waits.
    Interrupt,
}

/// The signals that end the process.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Receives signals from now on.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn start() -> anyhow::Result<Self> {
        let start = |kind| signal(kind).context("can't receive signals");
        Ok(Self {
            terminate: start(SignalKind::terminate())?,
            interrupt: start(SignalKind::interrupt())?,
        })
    }

    /// The next signal.
    pub async fn next(&mut self) -> Cause {
        select! {
            _ = self.terminate.recv() => Cause::Terminate,
            _ = self.interrupt.recv() => Cause::Interrupt,
        }
    }
}
