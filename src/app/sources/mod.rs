//! Sources of policies and callers: files and directories.
//!
//! A source only reads and reports changes. `reload/` compiles and compares the texts of all sources, reports problems,
//! and puts the result in force.

mod files;
mod source_files;
mod watch;
mod watch_targets;

use crate::policy::Source;

pub use files::Files;
pub use source_files::{SourceFiles, SourceFilesError};

/// A source of policies or callers.
pub trait PolicySource: Send + 'static {
    /// Reads all current texts, each with its place. It may block.
    ///
    /// # Errors
    /// If they are unreadable.
    fn read(&mut self) -> anyhow::Result<Vec<Source>>;

    /// Waits until there may be new texts. It may end without a change. A change between two waits ends the next wait.
    /// It is cancel-safe.
    fn changed(&mut self) -> impl Future<Output = ()> + Send;
}
