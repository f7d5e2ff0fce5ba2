//! Removes the counters of a caller from the embedded store, and from its file at the next write.

use super::journal::note_removed;
use super::memory::{Memory, Shard};
use super::record::Record;
use crate::lock::lock;
use crate::policy::{Key, KeyEntry};

impl Memory {
    /// Removes the counters with one of these entries in their key, and returns their number.
    pub fn erase(&self, entries: &[KeyEntry]) -> u64 {
        let mut erased = 0;
        for shard in &self.shards {
            let Shard { records, journal, .. } = &mut *lock(shard);
            records.retain(|key, record| {
                let is_erased = entries.iter().any(|entry| entry.is_in(key.as_str()));
                if is_erased {
                    note_removed(journal, key, record);
                }
                erased += u64::from(is_erased);
                !is_erased
            });
        }
        erased
    }

    /// Removes the counters under a key.
    pub fn remove(&self, key: &Key) {
        let mut position = self.position(key);
        let mut shard = lock(&self.shards[position.shard]);
        let record = shard.take(&mut position);
        note_removed(&mut shard.journal, key, &record);
        // At this time nothing else has expired.
        shard.put(&position, Record::default(), 0);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::clock::Timestamp;
    use crate::limit::{Algorithm, Hits, Limit};
    use crate::store::{Batch, Charge};

    #[test]
    fn the_counters_of_one_key_are_removed() {
        let memory = Memory::new(1_000).keeping();
        let limit = Arc::new(Limit::new(5, Algorithm::Total));
        let now = Timestamp::from_ms(1_000);
        let keys = ["a", "b"].map(|name| {
            let mut key = Key::of_domain("d");
            key.push_value("name", name);
            key
        });
        for key in &keys {
            let mut batch = Batch::default();
            let index = batch.key_index(key.clone());
            batch.charges.push(Charge::plain(index, limit.clone(), Hits::Spend(3)));
            assert!(memory.charge_at(&batch, now).admitted);
        }
        for _ in 0..2 {
            memory.remove(&keys[0]);
            assert_eq!(memory.keys(), 1);
            assert_eq!([0, 1].map(|one| memory.used(&keys[one], &limit, now)), [0, 3]);
        }
    }
}
