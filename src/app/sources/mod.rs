//! Where policies, and callers, come from: today files and directories.
//!
//! A source only reads and notices changes. What it reads is compiled, compared, reported and put in force in one
//! place for all sources, `reload/`.

mod files;
mod source_files;
mod watch;
mod watch_targets;

use crate::policy::Source;

pub use files::Files;
pub use source_files::{SourceFiles, SourceFilesError};

/// A source of policies or callers.
pub trait PolicySource: Send + 'static {
    /// Reads all texts as they are now, each with the place that it comes from. It may block.
    ///
    /// # Errors
    /// When they can't be read.
    fn read(&mut self) -> anyhow::Result<Vec<Source>>;

    /// Waits until there may be other texts to read. It may end without a change; a change between two waits ends
    /// the next wait. It may be dropped at any time.
    fn changed(&mut self) -> impl Future<Output = ()> + Send;
}
