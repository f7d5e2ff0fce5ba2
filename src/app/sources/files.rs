//! The source that reads files. It watches them for changes, polls for changes that the watch misses, and reads on
//! SIGHUP.
//!
//! After a change it waits for quiet, so that it reads the complete result of an editor or of `git pull`. A slow poll
//! finds changes that the watch misses, for example on a network file system. SIGHUP reads at once.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use tokio::select;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::source_files::{Reading, SourceFiles, SourceFilesError};
use super::watch::Watch;
use super::watch_targets::WatchTargets;
use super::{PolicySource, Texts};
use crate::policy::{Origin, Source};
use crate::printable;

/// Quiet time after which a change counts as complete.
const QUIET: Duration = Duration::from_millis(100);

/// Maximum wait for quiet: less than the second in which an edit is live.
const QUIET_WAIT_MAX: Duration = Duration::from_millis(400);

/// Poll interval if the watch reports every change.
const POLL_INTERVAL: Duration = Duration::from_secs(30);

/// Poll interval if the watch may miss changes.
const POLL_INTERVAL_UNWATCHED: Duration = Duration::from_millis(500);

/// Maximum number of consecutive reads that find new places to watch. After the first, each needs a change in between.
const READINGS_MAX: usize = 3;

/// Files and directories, and the watch on them.
#[derive(Debug)]
pub struct Files {
    files: SourceFiles,
    watch: Watch,
    changes: mpsc::Receiver<()>,
    hangup: Signal,
    /// Ignored files that have been reported.
    skipped: Vec<PathBuf>,
}

impl Files {
    /// These files and directory trees, watched from the first read on.
    ///
    /// # Errors
    /// If signals can't be received.
    pub fn start(files: SourceFiles) -> anyhow::Result<Self> {
        let hangup = signal(SignalKind::hangup()).context("can't receive SIGHUP")?;
        let (watch, changes) = Watch::start();
        Ok(Self { files, watch, changes, hangup, skipped: Vec::new() })
    }

    /// Reads all files. It may block.
    ///
    /// # Errors
    /// If they are unreadable, or there are none.
    pub fn read_files(&mut self) -> Result<Vec<Source>, SourceFilesError> {
        self.watch.renew();
        let reading = settled(|| self.files.read(), |targets| self.watch.arm(targets));
        for path in reading.skipped.iter().filter(|path| !self.skipped.contains(path)) {
            let file = printable::path(path);
            tracing::warn!(%file, "file ignored: its name ends in neither .yaml nor .yml");
        }
        self.skipped = reading.skipped;
        reading.sources
    }

    /// Waits until nothing has changed for a while, up to a maximum.
    async fn quiet(&mut self) {
        let quiet = async { while let Ok(Some(())) = timeout(QUIET, self.changes.recv()).await {} };
        // The next read includes all changes until then; a later one is a new change.
        timeout(QUIET_WAIT_MAX, quiet).await.ok();
    }
}

impl PolicySource for Files {
    fn origin(&self) -> Origin {
        Origin { source: "files", version: None }
    }

    fn read(&mut self) -> anyhow::Result<Texts> {
        Ok(self.read_files()?.into())
    }

    async fn changed(&mut self) {
        let interval = match self.watch.is_complete() {
            true => POLL_INTERVAL,
            false => POLL_INTERVAL_UNWATCHED,
        };
        select! {
            Some(()) = self.changes.recv() => self.quiet().await,
            Some(()) = self.hangup.recv() => {}
            () = sleep(interval) => {}
        }
    }
}

/// Reads, watches the places found, and reads again if they have changed: a change between the read and the watch would
/// be missed.
fn settled(
    mut read: impl FnMut() -> Reading,
    mut arm: impl FnMut(&WatchTargets) -> bool,
) -> Reading {
    let mut reading = read();
    for _ in 1..READINGS_MAX {
        if !arm(&reading.targets) {
            return reading;
        }
        reading = read();
    }
    arm(&reading.targets);
    reading
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Poll interval if the maximum number of consecutive reads found new places.
    #[track_caller]
    fn check(moves: usize, expected: usize) {
        let (mut reads, mut arms) = (0, 0);
        let read = || {
            reads += 1;
            Reading {
                sources: Ok(Vec::new()),
                targets: WatchTargets::default(),
                skipped: Vec::new(),
            }
        };
        let arm = |_: &WatchTargets| {
            arms += 1;
            arms <= moves
        };
        assert!(settled(read, arm).sources.is_ok());
        assert_eq!((reads, arms), (expected, expected), "{moves} moves");
    }

    #[test]
    fn new_places_are_read_again_once_they_are_watched() {
        check(0, 1);
        check(1, 2);
        check(2, 3);
        check(usize::MAX, READINGS_MAX);
    }
}
