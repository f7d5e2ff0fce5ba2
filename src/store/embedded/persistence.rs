//! How the embedded store's counters of lasting limits get into a file, and back from it after a restart.
//!
//! Each shard notes which records have changed. Once in a while they are encoded, a few with each lock, so no request waits
//! for long, and written while no lock is held.

use std::sync::Mutex;

use super::journal::{Changed, Journal};
use super::memory::{Memory, Shard};
use super::record::{Entry, Record};
use super::record_code::encode;
use crate::clock::Timestamp;
use crate::limit::{Hits, is_lasting};
use crate::lock::lock;
use crate::policy::Key;
use crate::store::Batch;

/// Records that are encoded with one lock.
const ENCODED_AT_ONCE: usize = 64;

/// Where changed records go.
pub trait RecordSink {
    type Error;

    /// Forgets all records, because all follow.
    fn clear(&mut self) -> Result<(), Self::Error>;

    /// Writes a record; None: there is none under this key any more.
    fn write(&mut self, key: &Key, bytes: Option<&[u8]>) -> Result<(), Self::Error>;
}

impl Memory {
    /// The same store, which notes changes from now on.
    pub fn keeping(mut self) -> Self {
        for shard in &mut self.shards {
            let shard = shard.get_mut().unwrap_or_else(|poisoned| poisoned.into_inner());
            let hasher = shard.records.hasher().clone();
            shard.journal = Some(Box::new(Journal::new(shard.keys_max, hasher)));
        }
        self
    }

    /// Whether a record of a lasting limit has changed since the last write.
    pub fn has_changed(&self) -> bool {
        let is_empty = |shard: &Shard| shard.journal.as_ref().is_none_or(|known| known.is_empty());
        self.shards.iter().any(|shard| !is_empty(&lock(shard)))
    }

    /// Writes what has changed since the last call, or everything. After an error everything has to be written.
    ///
    /// # Errors
    /// Those of the sink.
    pub fn write_changes<S: RecordSink>(&self, all: bool, sink: &mut S) -> Result<(), S::Error> {
        let take =
            |shard: &Mutex<Shard>| lock(shard).journal.as_mut().map(|journal| journal.take());
        let changes: Vec<Changed> = self.shards.iter().filter_map(take).collect();
        let all = all || changes.iter().any(|changed| matches!(changed, Changed::All));
        if all {
            sink.clear()?;
        }
        let mut encoded = Encoded::default();
        for (shard, changed) in self.shards.iter().zip(changes) {
            match changed {
                Changed::Keys(keys) if !all => {
                    let keys: Vec<Key> = keys.into_iter().collect();
                    for keys in keys.chunks(ENCODED_AT_ONCE) {
                        {
                            let shard = lock(shard);
                            keys.iter().for_each(|key| encoded.add(key, shard.records.get(key)));
                        }
                        encoded.write(sink)?;
                    }
                }
                _ => {
                    // From the end on: where a record is removed meanwhile, the last one comes to stand, which was written.
                    let mut end = lock(shard).records.len();
                    while end != 0 {
                        {
                            let shard = lock(shard);
                            let from = end.saturating_sub(ENCODED_AT_ONCE);
                            let records = (from..end).filter_map(|at| shard.records.get_index(at));
                            records.for_each(|(key, record)| encoded.add(key, Some(record)));
                            end = from;
                        }
                        encoded.write(sink)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Takes a record back from a file. If its key has been charged meanwhile, both are added up. False: it has expired.
    pub fn restore(&self, key: &Key, mut record: Record, now: Timestamp) -> bool {
        record.forget(now);
        if record.is_empty() {
            return false;
        }
        let mut position = self.position(key);
        let mut shard = lock(&self.shards[position.shard]);
        let mut known = shard.take(&mut position);
        known.add_earlier(record, now);
        let evicted = shard.put(&position, known, now.as_ms());
        drop(shard);
        self.count_evicted(evicted);
        true
    }
}

impl Batch {
    /// Whether it charges a lasting limit under one of its keys, or leaves a mark there for one.
    pub(super) fn changes_lasting(&self, key_index: usize) -> bool {
        self.charges.iter().any(|charge| {
            let mark = charge.once.as_ref().and_then(|once| once.mark());
            let has_mark = mark.is_some_and(|mark| usize::from(mark.key_index) == key_index);
            (charge.key_index == key_index || has_mark) && is_lasting(charge.limit.tag())
        })
    }
}

impl Record {
    /// Adds an earlier record of the same key. What was spent since counts as if it were spent now.
    fn add_earlier(&mut self, earlier: Self, now: Timestamp) {
        for Entry { limit, mut state, expiry_ms } in earlier.states {
            let Some(place) = self.find(&limit) else {
                self.states.push(Entry { limit, state, expiry_ms });
                continue;
            };
            let known = &mut self.states[place];
            known.limit.settle(&mut known.state, now);
            known.limit.settle(&mut state, now);
            let since = Hits::Spend(known.limit.used(&known.state, now));
            known.limit.charge(&mut state, since, now);
            known.expiry_ms = known.limit.latest_expiry_ms(&state);
            known.state = state;
        }
        if self.extra.is_none() {
            self.extra = earlier.extra;
        }
    }
}

/// Encoded records on their way to a sink.
#[derive(Default)]
struct Encoded {
    records: Vec<(Key, Option<Vec<u8>>)>,
    buffer: Vec<u8>,
}

impl Encoded {
    fn add(&mut self, key: &Key, record: Option<&Record>) {
        let is_kept = record.is_some_and(|record| encode(key.as_str(), record, &mut self.buffer));
        let bytes = is_kept.then(|| self.buffer.clone());
        self.records.push((key.clone(), bytes));
    }

    fn write<S: RecordSink>(&mut self, sink: &mut S) -> Result<(), S::Error> {
        let mut records = self.records.drain(..);
        records.try_for_each(|(key, bytes)| sink.write(&key, bytes.as_deref()))
    }
}
