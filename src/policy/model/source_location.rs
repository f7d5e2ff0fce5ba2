//! The place of a rule or a limit, for people.

use std::fmt;
use std::sync::Arc;

/// A file and a line in it.
#[derive(Clone, Debug)]
pub struct SourceLocation {
    pub file: Arc<str>,
    pub line: usize,
}

impl fmt::Display for SourceLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}
