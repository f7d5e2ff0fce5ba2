//! Records of callers in a directory, their pages, and their changes.

use std::sync::Arc;

use crate::policy::Caller;

/// The record of a caller, and its revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub caller: Arc<Caller>,
    /// Unique for each change in Redis. 0 for files, which can't be changed here.
    pub revision: u64,
}

/// A page of callers, ordered by name.
#[derive(Clone, Debug, Default)]
pub struct Page {
    pub callers: Vec<(String, Record)>,
    /// The name after which the next page starts; None at the end.
    pub next: Option<String>,
}

/// A change of one caller.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    pub name: &'a str,
    /// The revision that the writer has read; 0 if there was no record.
    pub seen: u64,
    /// The names and revisions of other records on which the change depends: the parents that were checked.
    pub depends_on: &'a [(Arc<str>, u64)],
    /// The new record; None deletes it.
    pub caller: Option<&'a Caller>,
}

impl Record {
    /// The record of a caller in a file.
    pub fn of_file(caller: Arc<Caller>) -> Self {
        Self { caller, revision: 0 }
    }
}
