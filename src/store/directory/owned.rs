//! Changes of a directory that are handed to another thread.

use std::sync::Arc;

use super::caller_record::Change;
use super::embedded::{EmbeddedDirectory, EmbeddedError};
use super::gift::{Gift, GiftChange, GiftEvent};
use crate::clock::Timestamp;
use crate::policy::Caller;

/// A [`Change`].
#[derive(Debug)]
pub struct OwnedChange {
    name: String,
    seen: u64,
    depends_on: Vec<(Arc<str>, u64)>,
    caller: Option<Caller>,
}

/// A [`GiftChange`].
#[derive(Debug)]
pub struct OwnedGiftChange {
    seen: Option<Gift>,
    gift: Gift,
    credit: Option<OwnedChange>,
    log: Vec<GiftEvent>,
}

impl OwnedChange {
    /// The change.
    pub fn borrowed(&self) -> Change<'_> {
        let Self { name, seen, depends_on, caller } = self;
        Change { name, seen: *seen, depends_on, caller: caller.as_ref() }
    }
}

impl OwnedGiftChange {
    /// Makes the change.
    ///
    /// # Errors
    /// As [`EmbeddedDirectory::write_gift`].
    pub fn write(
        &self,
        directory: &EmbeddedDirectory,
        at: Timestamp,
    ) -> Result<bool, EmbeddedError> {
        let Self { seen, gift, credit, log } = self;
        let credit = credit.as_ref().map(OwnedChange::borrowed);
        directory.write_gift(GiftChange { seen: seen.as_ref(), gift, credit, log }, at)
    }
}

impl From<Change<'_>> for OwnedChange {
    fn from(change: Change<'_>) -> Self {
        let Change { name, seen, depends_on, caller } = change;
        let (name, caller) = (name.to_owned(), caller.cloned());
        Self { name, seen, depends_on: depends_on.to_vec(), caller }
    }
}

impl From<GiftChange<'_>> for OwnedGiftChange {
    fn from(change: GiftChange<'_>) -> Self {
        let GiftChange { seen, gift, credit, log } = change;
        let (seen, credit) = (seen.cloned(), credit.map(OwnedChange::from));
        Self { seen, gift: gift.clone(), credit, log: log.to_vec() }
    }
}
