//! Watches the directories of policies and callers for changes.
//!
//! It watches directories, never files: if a file is replaced, as by editors and by Kubernetes, its watch is lost.

use std::collections::BTreeSet;
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

use super::watch_targets::WatchTargets;
use crate::lock::lock;

/// A watch on places.
#[derive(Debug)]
pub struct Watch {
    watcher: Option<RecommendedWatcher>,
    /// Replaced as a whole, so that after a panic one of the two is in place.
    targets: Arc<Mutex<WatchTargets>>,
    watched: BTreeSet<PathBuf>,
    is_complete: bool,
}

impl Watch {
    /// A watch without places, and the changes that it will report. Two changes before a receive are one to the
    /// receiver, so the channel has a capacity of one.
    pub fn start() -> (Self, mpsc::Receiver<()>) {
        let (sender, changes) = mpsc::channel(1);
        let targets = Arc::new(Mutex::new(WatchTargets::default()));
        let affected = targets.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            // An error, such as an overflow of the kernel's queue, may hide a change.
            if event.map_or(true, |event| is_relevant(&event, &lock(&affected))) {
                // If the channel is full, a change is already reported.
                sender.try_send(()).ok();
            }
        });
        let watcher = watcher
            .inspect_err(|error| tracing::warn!(%error, "can't watch files; polling them"))
            .ok();
        (Self { watcher, targets, watched: BTreeSet::new(), is_complete: false }, changes)
    }

    /// Watches the same places again: a directory that was deleted and created again has lost its watch.
    pub fn renew(&mut self) {
        let targets = lock(&self.targets).clone();
        self.arm(&targets);
    }

    /// Watches `places` from now on, and returns whether they have changed.
    pub fn arm(&mut self, targets: &WatchTargets) -> bool {
        let Some(watcher) = &mut self.watcher else {
            return false;
        };
        let wanted: BTreeSet<PathBuf> = targets.watched().into_iter().map(Path::to_owned).collect();
        for gone in self.watched.difference(&wanted) {
            // The kernel drops the watch of a directory that is deleted.
            watcher.unwatch(gone).ok();
        }
        let failed = wanted.iter().filter(|path| {
            let result = watcher.watch(path, RecursiveMode::NonRecursive);
            result.is_err() && path.exists()
        });
        self.is_complete = failed.count() == 0;
        self.watched = wanted;
        mem::replace(&mut *lock(&self.targets), targets.clone()) != *targets
    }

    /// Whether every change is reported. If not, the files must be polled more often.
    pub fn is_complete(&self) -> bool {
        self.is_complete
    }
}

fn is_relevant(event: &Event, targets: &WatchTargets) -> bool {
    // Reads of the files are accesses, and must not cause another read.
    !event.kind.is_access()
        && (event.need_rescan() || event.paths.iter().any(|path| targets.affects(path)))
}
