//! The embedded store: counters in this process, sharded, bounded, and forgotten when they expire.
//!
//! A request locks the shards of its keys in ascending order, so that requests can't block each other in
//! a circle, decides, and lets go; nothing awaits meanwhile. Expired counters go as a hand moves over the
//! shard, a few places with each charge and with each [`Memory::sweep`], so no sweep ever stops a shard.

use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use foldhash::fast::RandomState;
use indexmap::IndexMap;
use smallvec::SmallVec;

use super::Batch;
use super::FEW;
use super::Outcome;
use super::Store;
use super::StoreError;
use super::decide::decide;
use super::record::Record;
use crate::clock::Now;
use crate::clock::Timestamp;
use crate::policy::Key;

/// Shards; a power of two well above the cores of any sidecar.
const SHARDS: usize = 64;

/// Places that the hand passes with each charge: more than the one that a charge can add.
const HAND_STEPS: usize = 2;

/// Places that an eviction looks at for the counter that is nearest to its end.
const EVICTION_SAMPLE: usize = 16;

/// Keeps counters in this process.
#[derive(Debug)]
pub struct Memory {
    shards: Vec<Mutex<Shard>>,
    hasher: RandomState,
    evicted: AtomicU64,
}

#[derive(Debug)]
struct Shard {
    records: IndexMap<Key, Record, RandomState>,
    keys_max: usize,
    hand: usize,
}

impl Memory {
    /// A store of at most about `keys_max` counters (rounded up to a multiple of its shards).
    pub fn new(keys_max: usize) -> Self {
        let keys_max = keys_max.div_ceil(SHARDS).max(1);
        let shard = || Shard { records: IndexMap::default(), keys_max, hand: 0 };
        Self {
            shards: (0..SHARDS).map(|_| Mutex::new(shard())).collect(),
            hasher: RandomState::default(),
            evicted: AtomicU64::new(0),
        }
    }

    /// Counters kept now, some of which may have expired.
    pub fn keys(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).records.len()).sum()
    }

    /// Live counters that had to go because the store was full, since the start.
    pub fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }

    /// Moves every shard's hand over `places` of its counters and forgets the expired ones.
    pub fn sweep(&self, now: Timestamp, places: usize) {
        for shard in &self.shards {
            lock(shard).sweep(now.as_ms(), places);
        }
    }

    /// Decides a request now.
    pub fn charge_at(&self, batch: &Batch, at: Timestamp) -> Outcome {
        let indexes: SmallVec<[usize; FEW]> =
            batch.keys.iter().map(|key| self.shard_index(key)).collect();
        let mut shards = self.lock_all(&indexes);
        let mut records: SmallVec<[Record; FEW]> = batch
            .keys
            .iter()
            .zip(&indexes)
            .map(|(key, index)| shards.of(*index).take(key))
            .collect();

        let outcome = decide(batch, &mut records, at);

        for ((key, index), record) in batch.keys.iter().zip(&indexes).zip(records) {
            let evicted = shards.of(*index).put(key, record, at.as_ms());
            self.evicted.fetch_add(evicted, Ordering::Relaxed);
        }
        outcome
    }

    fn shard_index(&self, key: &Key) -> usize {
        use std::hash::BuildHasher;
        let hash = self.hasher.hash_one(key.as_str());
        usize::try_from(hash % SHARDS as u64).expect("less than SHARDS")
    }

    fn lock_all(&self, indexes: &[usize]) -> Locked<'_> {
        let mut order: SmallVec<[usize; FEW]> = indexes.into();
        order.sort_unstable();
        order.dedup();
        Locked(order.into_iter().map(|index| (index, lock(&self.shards[index]))).collect())
    }
}

impl Store for Memory {
    async fn charge(&self, batch: &Batch, now: Now) -> Result<Outcome, StoreError> {
        Ok(self.charge_at(batch, now.timestamp()))
    }
}

/// The shards of one request, by index, ascending.
struct Locked<'a>(SmallVec<[(usize, MutexGuard<'a, Shard>); FEW]>);

impl Locked<'_> {
    fn of(&mut self, index: usize) -> &mut Shard {
        let place = self.0.binary_search_by_key(&index, |(index, _)| *index);
        &mut self.0[place.expect("every key's shard was locked")].1
    }
}

/// Locks a shard. One that a panic left is still a map of counters, at worst with one charge missing.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shard {
    /// Takes a key's record out; [`Shard::put`] brings it back before the lock is let go.
    fn take(&mut self, key: &Key) -> Record {
        self.records.get_mut(key).map(std::mem::take).unwrap_or_default()
    }

    /// Puts a record back, and says how many live ones had to go for it.
    fn put(&mut self, key: &Key, record: Record, now_ms: u64) -> u64 {
        let mut evicted = 0;
        match (self.records.get_mut(key), record.is_empty()) {
            (Some(place), false) => *place = record,
            (Some(_), true) => {
                self.records.swap_remove(key);
            }
            (None, true) => {}
            (None, false) => {
                if self.keys_max <= self.records.len() {
                    evicted = self.evict(now_ms);
                }
                self.records.insert(key.clone(), record);
            }
        }
        self.sweep(now_ms, HAND_STEPS);
        evicted
    }

    /// Removes the counter that is nearest to its end among the next few, and says whether it lived.
    fn evict(&mut self, now_ms: u64) -> u64 {
        let len = self.records.len();
        let sample = (0..EVICTION_SAMPLE.min(len)).map(|step| (self.hand + step) % len);
        let end_ms = |index: &usize| self.records[*index].expiry_ms().unwrap_or(u64::MAX);
        let Some(victim) = sample.min_by_key(end_ms) else {
            return 0;
        };
        let lived = now_ms < end_ms(&victim);
        self.records.swap_remove_index(victim);
        self.hand = victim;
        u64::from(lived)
    }

    fn sweep(&mut self, now_ms: u64, places: usize) {
        for _ in 0..places.min(self.records.len()) {
            self.hand = if self.hand < self.records.len() { self.hand } else { 0 };
            let Some((_, record)) = self.records.get_index(self.hand) else {
                return;
            };
            match record.expiry_ms() {
                // The last record moves into the gap and is looked at next.
                Some(end_ms) if end_ms <= now_ms => {
                    self.records.swap_remove_index(self.hand);
                }
                _ => self.hand += 1,
            }
        }
        if self.records.len() < self.records.capacity() / 4 {
            self.records.shrink_to(self.records.len() * 2);
        }
    }
}
