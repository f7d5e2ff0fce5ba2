//! Sources of policies and callers: files and directories, and for policies an xDS server, alone or with files that add
//! to it.
//!
//! A source only reads and reports changes. `reload/` compiles and compares the texts of all sources, reports problems,
//! and puts the result in force.

mod files;
mod overlaid;
mod source_files;
mod watch;
mod watch_targets;
mod xds;

use crate::policy::{Origin, Problem, Source};

pub use files::Files;
pub use overlaid::Overlaid;
pub use source_files::{SourceFiles, SourceFilesError};
pub use xds::Xds;

/// The texts of a source.
#[derive(Debug, Default)]
pub struct Texts {
    pub sources: Vec<Source>,
    /// Those that add to `sources`. Their problems are no reason to reject the others.
    pub overlays: Vec<Source>,
}

impl From<Vec<Source>> for Texts {
    fn from(sources: Vec<Source>) -> Self {
        Self { sources, overlays: Vec::new() }
    }
}

/// What became of the texts of the last read.
#[derive(Clone, Copy, Debug)]
pub enum Loaded<'a> {
    InForce,
    /// They are those of the read before, and so is what became of them.
    Unchanged,
    /// The texts before stay in force.
    Invalid(&'a [Problem]),
    /// The texts before stay in force.
    Unreadable(&'a anyhow::Error),
}

/// A source of policies or callers.
pub trait PolicySource: Send + 'static {
    /// Reads all current texts, each with its place. It may block.
    ///
    /// # Errors
    /// If they are unreadable.
    fn read(&mut self) -> anyhow::Result<Texts>;

    /// The source, with its version of what the last read returned.
    fn origin(&self) -> Origin;

    /// Whether there is something to read already. Files always are.
    fn has_texts(&self) -> bool {
        true
    }

    /// Tells the source what became of the texts of the last read. It may block.
    fn loaded(&mut self, _: Loaded<'_>) {}

    /// Waits until there may be new texts. It may end without a change. A change between two waits ends the next wait.
    /// It is cancel-safe.
    fn changed(&mut self) -> impl Future<Output = ()> + Send;
}
