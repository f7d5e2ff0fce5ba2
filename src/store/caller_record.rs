//! Records of callers as a directory keeps, lists and changes them.

use std::sync::Arc;

use crate::policy::Caller;

/// What is known of a caller, and since which change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub caller: Arc<Caller>,
    /// Of Redis: no two changes make the same. 0 for files, which are not changed from here.
    pub revision: u64,
}

/// Some callers, in the order of their names.
#[derive(Clone, Debug, Default)]
pub struct Page {
    pub callers: Vec<(String, Record)>,
    /// The name after which the next page begins; None at the end.
    pub next: Option<String>,
}

/// A change of one caller.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    pub name: &'a str,
    /// The revision that the writer saw; 0: there was no record.
    pub seen: u64,
    /// Records of others that the change depends on, by name and revision: the parents that were checked.
    pub depends_on: &'a [(Arc<str>, u64)],
    /// What is known from now on; None: nothing.
    pub caller: Option<&'a Caller>,
}

impl Record {
    /// The record of a caller in a file.
    pub fn of_file(caller: Arc<Caller>) -> Self {
        Self { caller, revision: 0 }
    }
}
