//! The keys whose records have changed since they were last written to a file, for each shard of the embedded store.

use std::mem;

use foldhash::fast::RandomState;
use indexmap::IndexSet;

use super::record::Record;
use crate::policy::Key;

/// The changed keys of one shard.
#[derive(Debug)]
pub struct Journal {
    keys: IndexSet<Key, RandomState>,
    keys_max: usize,
    /// More keys have changed than it holds.
    is_full: bool,
}

/// What has to be written.
#[derive(Debug)]
pub enum Changed {
    Keys(IndexSet<Key, RandomState>),
    /// All records, because too many have changed.
    All,
}

impl Journal {
    /// An empty journal for at most so many keys.
    pub fn new(keys_max: usize, hasher: RandomState) -> Self {
        Self { keys: IndexSet::with_hasher(hasher), keys_max, is_full: false }
    }

    /// Notes that the record under a key has changed, or was removed.
    pub fn note(&mut self, key: &Key) {
        if self.is_full || self.keys.contains(key) {
            return;
        }
        if self.keys.len() < self.keys_max {
            self.keys.insert(key.clone());
        } else {
            self.is_full = true;
            self.keys.clear();
        }
    }

    /// Whether nothing has changed.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && !self.is_full
    }

    /// Takes the changed keys; none if there are too many, which [`Journal::take`] tells.
    pub fn take_keys(&mut self) -> IndexSet<Key, RandomState> {
        let hasher = self.keys.hasher().clone();
        mem::replace(&mut self.keys, IndexSet::with_hasher(hasher))
    }

    /// Takes what has changed.
    pub fn take(&mut self) -> Changed {
        let keys = self.take_keys();
        if mem::take(&mut self.is_full) { Changed::All } else { Changed::Keys(keys) }
    }
}

/// Notes that a record was removed, if there is a journal and it has to be removed from the file, too.
pub fn note_removed(journal: &mut Option<Box<Journal>>, key: &Key, record: &Record) {
    if let Some(journal) = journal
        && record.is_lasting()
    {
        journal.note(key);
    }
}
