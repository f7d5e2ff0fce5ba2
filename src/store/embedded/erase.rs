//! Removes the counters of a caller from the embedded store, and from its file at the next write.

use super::journal::note_removed;
use super::memory::{Memory, Shard};
use crate::lock::lock;
use crate::policy::{Key, KeyEntry};

impl Memory {
    /// Removes the counters with one of these entries in their key, and returns their number.
    pub fn erase(&self, entries: &[KeyEntry]) -> u64 {
        self.remove_if(|key| entries.iter().any(|entry| entry.is_in(key)))
    }

    /// Removes the counters under a key.
    pub fn remove(&self, key: &Key) {
        self.remove_if(|known| known == key.as_str());
    }

    fn remove_if(&self, is_erased: impl Fn(&str) -> bool) -> u64 {
        let mut erased = 0;
        for shard in &self.shards {
            let Shard { records, journal, .. } = &mut *lock(shard);
            records.retain(|key, record| {
                let is_erased = is_erased(key.as_str());
                if is_erased {
                    note_removed(journal, key, record);
                }
                erased += u64::from(is_erased);
                !is_erased
            });
        }
        erased
    }
}
