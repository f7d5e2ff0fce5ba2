//! The embedded store: counters in this process, sharded, bounded, and deleted when they expire.
//!
//! A request locks the shards of its keys in ascending order, so that there are no deadlocks, decides, and unlocks
//! them, without an await. Expired counters are deleted as a hand moves over the shard, a few places with each charge
//! and with each [`Memory::sweep`], so no sweep ever blocks a shard for long.
//!
//! If there is no space for a new counter, the one with the least weight in a random sample is evicted
//! (`Record::weight`): an expired one, or else one with a small used share of its limit, for a short time. A counter
//! with a single hit has almost no weight, because a flood of names consists of them, on any limit that its sender
//! chooses.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::mem;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use foldhash::fast::RandomState;
use indexmap::IndexMap;
use indexmap::map::raw_entry_v1::{RawEntryApiV1, RawEntryMut};
use smallvec::SmallVec;

use super::decide::decide;
use super::durability::Durability;
use super::journal::{Journal, note_removed};
use super::record::Record;
use crate::clock::{Now, Timestamp};
use crate::limit::{Limit, LimitName};
use crate::lock::lock;
use crate::policy::Key;
use crate::store::signals::SignalFields;
use crate::store::{Batch, INLINE_CAP, Outcome, Store, StoreError, StoreWait};

/// Number of shards: well above the cores of any sidecar, and so many that the growth of one, which moves its counters,
/// blocks no request for long.
const SHARDS_MAX: usize = 256;

/// If each shard would have fewer counters than this, there are fewer shards: they fill unevenly.
const SHARD_KEYS_MIN: usize = 1_024;

/// Places that the hand moves with each charge: more than the one that a charge can add.
const HAND_STEPS: usize = 2;

/// Places that an eviction checks for the counter with the least weight.
const EVICTION_SAMPLE: usize = 16;

/// Places that it checks to find one with a weight below [`LIGHT`].
const EVICTION_SAMPLE_MAX: usize = 128;

/// The weight of a limit that is exhausted for ten more seconds. A single hit always weighs less.
const LIGHT: f64 = 10_000.0;

/// Maximum number of limits for which a shard counts evictions, until they are taken.
const LOST_MAX: usize = 1_024;

/// Keeps counters in this process.
#[derive(Debug)]
pub struct Memory {
    pub(super) shards: Vec<Mutex<Shard>>,
    hasher: RandomState,
    evicted: AtomicU64,
    /// For a store whose counters are kept in a file.
    pub(super) durability: Option<Durability>,
    /// Locked for as long as it takes to copy a few texts.
    pub(super) signals: Mutex<SignalFields>,
    /// Changes of providers have changed since they were written to a file.
    pub(super) has_new_controls: AtomicBool,
}

/// The hits of a limit in use under a key.
#[derive(Clone, Debug)]
pub struct Spent {
    pub key: Key,
    pub limit: Arc<Limit>,
    pub hits: u64,
    /// The time at which none of them is in use; None if there is none.
    pub until: Option<Timestamp>,
}

#[derive(Debug)]
pub(super) struct Shard {
    pub(super) records: IndexMap<Key, Record, RandomState>,
    pub(super) keys_max: usize,
    /// For a store whose counters are kept in a file.
    pub(super) journal: Option<Box<Journal>>,
    hand: usize,
    /// The last random number.
    random: u64,
    lost: HashMap<LostOf, u64, RandomState>,
}

/// The counts of evicted counters are by limit and exhaustion.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LostOf {
    pub limit: Arc<LimitName>,
    /// Whether the limit had no hits left, so that its caller starts from zero.
    pub exhausted: bool,
}

impl Memory {
    /// A store of at most about `keys_max` counters (rounded up to a multiple of its shards).
    pub fn new(keys_max: usize) -> Self {
        let shards = (keys_max / SHARD_KEYS_MIN).clamp(1, SHARDS_MAX);
        let keys_max = keys_max.div_ceil(shards).max(1);
        let hasher = RandomState::default();
        let records = || IndexMap::with_hasher(hasher.clone());
        let lost = || HashMap::with_hasher(hasher.clone());
        let shard = || Shard {
            records: records(),
            keys_max,
            journal: None,
            hand: 0,
            random: 0,
            lost: lost(),
        };
        Self {
            shards: (0..shards).map(|_| Mutex::new(shard())).collect(),
            hasher,
            evicted: AtomicU64::new(0),
            durability: None,
            signals: Mutex::default(),
            has_new_controls: AtomicBool::new(false),
        }
    }

    /// The number of stored counters, some of which may have expired.
    pub fn keys(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).records.len()).sum()
    }

    /// Unexpired counters that were evicted because the store was full, since the start.
    pub fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }

    /// Takes the counts of evicted unexpired counters, by limit, since the last call.
    pub fn take_lost(&self) -> Vec<(LostOf, u64)> {
        let shards = self.shards.iter();
        shards.flat_map(|shard| mem::take(&mut lock(shard).lost)).collect()
    }

    /// Moves every shard's hand over `places` of its counters and deletes expired ones.
    pub fn sweep(&self, now: Timestamp, positions: usize) {
        for shard in &self.shards {
            lock(shard).sweep(now.as_ms(), positions);
        }
    }

    /// Decides a request at once.
    pub fn charge_at(&self, batch: &Batch, at: Timestamp) -> Outcome {
        let mut positions: SmallVec<[RecordPosition<'_>; INLINE_CAP]> =
            batch.keys.iter().map(|key| self.position(key)).collect();
        let mut shards = self.lock_all(&positions);
        let mut records: SmallVec<[Record; INLINE_CAP]> =
            positions.iter_mut().map(|position| shards.of(position.shard).take(position)).collect();

        let outcome = decide(batch, &mut records, at);

        let mut evicted = 0;
        for (index, (position, record)) in positions.iter().zip(records).enumerate() {
            let shard = shards.of(position.shard);
            if let Some(journal) = &mut shard.journal
                && (outcome.is_charged() || !outcome.levels.is_empty())
                && batch.changes_kept(index)
            {
                journal.note(position.key);
            }
            evicted += shard.put(position, record, at.as_ms());
        }
        self.count_evicted(evicted);
        outcome
    }

    pub(super) fn count_evicted(&self, evicted: u64) {
        if evicted != 0 {
            self.evicted.fetch_add(evicted, Ordering::Relaxed);
        }
    }

    /// Takes the hits in use of up to about `max` unexpired counters, each of another limit or key.
    pub fn drain(&self, max: usize, at: Timestamp) -> Vec<Spent> {
        let mut all = Vec::new();
        for shard in &self.shards {
            let mut shard = lock(shard);
            while all.len() < max {
                let Some((key, record)) = shard.records.pop() else { break };
                for mut entry in record.states {
                    let limit = entry.limit;
                    limit.settle(&mut entry.state, at);
                    let hits = limit.used(&entry.state, at);
                    if 0 < hits {
                        let until = limit.expiry_ms(&entry.state).map(Timestamp::from_ms);
                        all.push(Spent { key: key.clone(), limit, hits, until });
                    }
                }
            }
        }
        all
    }

    /// The hits of a limit in use under a key.
    pub fn used(&self, key: &Key, limit: &Arc<Limit>, at: Timestamp) -> u64 {
        let position = self.position(key);
        let shard = lock(&self.shards[position.shard]);
        let record = shard.find(&position).and_then(|index| shard.records.get_index(index));
        let entry = record.and_then(|(_, record)| Some(&record.states[record.find(limit)?]));
        entry.map_or(0, |entry| {
            let mut state = entry.state.clone();
            limit.settle(&mut state, at);
            limit.used(&state, at)
        })
    }

    pub(super) fn position<'k>(&self, key: &'k Key) -> RecordPosition<'k> {
        let hash = self.hasher.hash_one(key);
        // Bits that the map's own table doesn't use, or its entries would all be neighbours.
        let shards = self.shards.len() as u64;
        let shard = usize::try_from((hash >> 40) % shards).expect("less than the shards");
        RecordPosition { key, hash, shard, index: None }
    }

    fn lock_all(&self, positions: &[RecordPosition<'_>]) -> Locked<'_> {
        let mut order: SmallVec<[usize; INLINE_CAP]> =
            positions.iter().map(|position| position.shard).collect();
        order.sort_unstable();
        order.dedup();
        Locked(order.into_iter().map(|index| (index, lock(&self.shards[index]))).collect())
    }
}

impl Store for Memory {
    async fn charge_after(
        &self,
        batch: &Batch,
        now: Now,
        _wait: StoreWait,
    ) -> Result<Outcome, StoreError> {
        Ok(self.charge_at(batch, now.timestamp()))
    }
}

/// The position of a record, if it exists.
pub(super) struct RecordPosition<'k> {
    key: &'k Key,
    hash: u64,
    pub(super) shard: usize,
    /// In its shard, when it was looked up; other records may have been moved since.
    index: Option<usize>,
}

/// The shards of one request, by index, ascending.
struct Locked<'a>(SmallVec<[(usize, MutexGuard<'a, Shard>); INLINE_CAP]>);

impl Locked<'_> {
    fn of(&mut self, index: usize) -> &mut Shard {
        let position = self.0.binary_search_by_key(&index, |(index, _)| *index);
        &mut self.0[position.expect("every key's shard was locked")].1
    }
}

impl Shard {
    /// Takes a key's record; [`Shard::put`] returns it before the lock is released.
    pub(super) fn take(&mut self, position: &mut RecordPosition<'_>) -> Record {
        position.index = self.find(position);
        let record = position.index.and_then(|index| self.records.get_index_mut(index));
        record.map(|(_, record)| mem::take(record)).unwrap_or_default()
    }

    fn find(&self, position: &RecordPosition<'_>) -> Option<usize> {
        self.records.raw_entry_v1().index_from_hash(position.hash, |key| key == position.key)
    }

    /// The current position of a record that was looked up.
    fn index(&self, position: &RecordPosition<'_>) -> Option<usize> {
        let index = position.index?;
        let stayed = self.records.get_index(index).is_some_and(|(key, _)| key == position.key);
        if stayed { Some(index) } else { self.find(position) }
    }

    /// Stores a record, and returns how many unexpired ones were evicted for it.
    pub(super) fn put(
        &mut self,
        position: &RecordPosition<'_>,
        mut record: Record,
        now_ms: u64,
    ) -> u64 {
        record.sweep_ms = record.expiry_ms().unwrap_or(u64::MAX);
        let mut evicted = 0;
        match (self.index(position), record.is_empty()) {
            (Some(index), false) => self.records[index] = record,
            (Some(index), true) => {
                self.records.swap_remove_index(index);
            }
            (None, true) => {}
            (None, false) => {
                if self.keys_max <= self.records.len() {
                    evicted = self.evict(now_ms);
                }
                self.insert(position, record);
            }
        }
        self.sweep(now_ms, HAND_STEPS);
        evicted
    }

    fn insert(&mut self, position: &RecordPosition<'_>, record: Record) {
        let is_key = |key: &Key| key == position.key;
        match self.records.raw_entry_mut_v1().from_hash(position.hash, is_key) {
            RawEntryMut::Occupied(mut known) => *known.get_mut() = record,
            RawEntryMut::Vacant(vacant) => {
                vacant.insert_hashed_nocheck(position.hash, position.key.clone(), record);
            }
        }
    }

    /// Removes the counter with the least weight of a sample, and returns whether it had not expired.
    fn evict(&mut self, now_ms: u64) -> u64 {
        let now = Timestamp::from_ms(now_ms);
        let len = self.records.len();
        let mut victim: Option<(f64, usize)> = None;
        for step in 0..EVICTION_SAMPLE_MAX.min(len) {
            let enough = if step < EVICTION_SAMPLE { 0.0 } else { LIGHT };
            if victim.is_some_and(|(weight, _)| weight <= enough) {
                break;
            }
            let index = self.sample(step);
            let weight = self.records[index].weight(now);
            if victim.is_none_or(|(known, _)| weight < known) {
                victim = Some((weight, index));
            }
        }
        let Some((key, record)) =
            victim.and_then(|(_, index)| self.records.swap_remove_index(index))
        else {
            return 0;
        };
        self.lose(&record, now);
        note_removed(&mut self.journal, &key, &record);
        u64::from(record.expiry_ms().is_none_or(|end_ms| now_ms < end_ms))
    }

    /// A random place, because counters that were added together are adjacent. A few adjacent places are checked, each
    /// once.
    fn sample(&mut self, step: usize) -> usize {
        let len = self.records.len();
        if len <= EVICTION_SAMPLE_MAX {
            return (self.hand + step) % len;
        }
        // Knuth's linear congruential generator; its upper bits are random enough.
        let random = self.random.wrapping_mul(6_364_136_223_846_793_005);
        self.random = random.wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.random >> 33).unwrap_or(usize::MAX) % len
    }

    /// Counts the removal of a record.
    fn lose(&mut self, record: &Record, now: Timestamp) {
        for entry in record.states.iter().filter(|entry| entry.lives(now)) {
            let Some(limit) = entry.limit.name() else { continue };
            let exhausted = entry.limit.capacity() <= entry.limit.used(&entry.state, now);
            let lost = LostOf { limit: Arc::clone(limit), exhausted };
            if let Some(count) = self.lost.get_mut(&lost) {
                *count += 1;
            } else if self.lost.len() < LOST_MAX {
                self.lost.insert(lost, 1);
            }
        }
    }

    fn sweep(&mut self, now_ms: u64, positions: usize) {
        for _ in 0..positions.min(self.records.len()) {
            self.hand = if self.hand < self.records.len() { self.hand } else { 0 };
            let Some((key, record)) = self.records.get_index(self.hand) else {
                return;
            };
            if record.sweep_ms <= now_ms {
                // The last record moves into the gap and is checked next.
                note_removed(&mut self.journal, key, record);
                self.records.swap_remove_index(self.hand);
            } else {
                self.hand += 1;
            }
        }
        if self.records.len() < self.records.capacity() / 4 {
            self.records.shrink_to(self.records.len() * 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::{Algorithm, Bucket, Fixed, Hits, Sliding};
    use crate::policy::RetryId;
    use crate::store::{Charge, FINAL, IdempotencyMark, Once};

    const KEYS_MAX: usize = 20_000;
    const NAMES: usize = 100_000;
    const HOUR_MS: u64 = 3_600_000;
    const AT: Timestamp = Timestamp::from_ms(1_750_000_000_000);

    fn spend(memory: &Memory, limit: &Arc<Limit>, name: &str) -> bool {
        spend_hits(memory, limit, (name, 1))
    }

    fn spend_hits(memory: &Memory, limit: &Arc<Limit>, (name, hits): (&str, u64)) -> bool {
        let mut key = Key::of_domain("d");
        key.push_value("name", name);
        let mut batch = Batch::default();
        let key_index = batch.key_index(key);
        batch.charges.push(Charge::plain(key_index, limit.clone(), Hits::Spend(hits)));
        memory.charge_at(&batch, AT).admitted
    }

    fn of_each_algorithm() -> [Arc<Limit>; 4] {
        [
            sliding(10, HOUR_MS),
            limit(10, Algorithm::Fixed(Fixed::new(HOUR_MS))),
            limit(10, Algorithm::Bucket(Bucket::new(10, HOUR_MS, 10).unwrap())),
            limit(10, Algorithm::Total),
        ]
    }

    #[test]
    fn a_flood_of_names_evicts_no_exhausted_counter() {
        for limit in of_each_algorithm() {
            let memory = Memory::new(KEYS_MAX);
            let over: Vec<String> = (0..100).map(|number| format!("over {number}")).collect();
            for name in &over {
                let passed = (0..11).filter(|_| spend(&memory, &limit, name)).count();
                assert_eq!(passed, 10, "{limit}");
            }
            for number in 0..NAMES {
                assert!(spend(&memory, &limit, &format!("name {number}")), "{limit}");
            }
            let passed = over.iter().filter(|name| spend(&memory, &limit, name)).count();
            assert_eq!(passed, 0, "{limit}: of those who were over");
            assert!(memory.keys() <= KEYS_MAX + SHARDS_MAX, "{limit}");
            let lost = memory.take_lost();
            assert_eq!(lost.iter().map(|(_, count)| count).sum::<u64>(), memory.evicted());
            assert!(lost.iter().all(|(lost, _)| !lost.exhausted && &*lost.limit.label == "ten"));
            assert!(memory.take_lost().is_empty(), "it is told once");
        }
    }

    fn limit(amount: u64, algorithm: Algorithm) -> Arc<Limit> {
        let name = LimitName { domain: "d".into(), label: "ten".into() };
        Arc::new(Limit::new(amount, algorithm).named(Arc::new(name)))
    }

    fn sliding(amount: u64, window_ms: u64) -> Arc<Limit> {
        limit(amount, Algorithm::Sliding(Sliding::new(window_ms, amount)))
    }

    /// Callers that have spent hits before a flood, and the charges of each.
    struct Victims<'l> {
        limit: &'l Arc<Limit>,
        spend: &'l [u64],
    }

    /// The charges under each name of a flood.
    struct Flood<'l> {
        limit: &'l Arc<Limit>,
        spend: &'l [u64],
    }

    /// Checks that a flood of names evicts none of these callers: the same number of hits passes for each.
    fn assert_flood_evicts_no_exhausted_counter(victims: &Victims<'_>, flood: &Flood<'_>) {
        const VICTIMS: usize = 100;
        let memory = Memory::new(700);
        let names: Vec<String> = (0..VICTIMS).map(|number| format!("victim {number}")).collect();
        let charge = |limit, name: &str, spend: &[u64]| {
            spend.iter().for_each(|hits| {
                spend_hits(&memory, limit, (name, *hits));
            });
        };
        for name in &names {
            charge(victims.limit, name, victims.spend);
        }
        for number in 0..2_100 {
            charge(flood.limit, &format!("name {number}"), flood.spend);
        }
        let left = victims.limit.capacity().saturating_sub(victims.spend.iter().sum());
        let kept =
            names.iter().filter(|name| !spend_hits(&memory, victims.limit, (name, left + 1)));
        let (limit, spend) = (victims.limit, victims.spend);
        let scene = format!("{spend:?} of {limit}, flood of {:?} of {}", flood.spend, flood.limit);
        assert_eq!(kept.count(), VICTIMS, "{scene}");
        assert_ne!(memory.evicted(), 0, "{scene}");
    }

    const ONE_BY_ONE: [u64; 10] = [1; 10];

    #[test]
    fn a_flood_of_single_hits_on_any_limit_evicts_no_exhausted_counter() {
        let floods = [
            sliding(2, 1_000),
            sliding(1, 1_000),
            sliding(1, 60_000),
            sliding(10, 24 * HOUR_MS),
            sliding(1, 24 * HOUR_MS),
            limit(1, Algorithm::Total),
            limit(10, Algorithm::Total),
        ];
        let tens = [sliding(10, 60_000), sliding(10, HOUR_MS), limit(10, Algorithm::Total)];
        let (five, tokens) = (sliding(5, HOUR_MS), sliding(1_000, HOUR_MS));
        let of_ten = |limit| [9, 10].map(|spent| Victims { limit, spend: &ONE_BY_ONE[..spent] });
        let mut victims: Vec<Victims<'_>> = tens.iter().flat_map(of_ten).collect();
        // The sixth is refused.
        victims.push(Victims { limit: &five, spend: &ONE_BY_ONE[..6] });
        victims.push(Victims { limit: &tokens, spend: &[1_000] });
        for victims in &victims {
            for limit in &floods {
                assert_flood_evicts_no_exhausted_counter(victims, &Flood { limit, spend: &[1] });
            }
        }
    }

    /// Requests that cost nothing give a name no weight.
    #[test]
    fn peeks_and_refused_requests_shield_no_flood() {
        let (limit, once) = (sliding(5, HOUR_MS), sliding(1, 24 * HOUR_MS));
        let victims = Victims { limit: &limit, spend: &ONE_BY_ONE[..5] };
        let day = sliding(10, 24 * HOUR_MS);
        assert_flood_evicts_no_exhausted_counter(
            &victims,
            &Flood { limit: &day, spend: &[1, 0, 0] },
        );
        assert_flood_evicts_no_exhausted_counter(&victims, &Flood { limit: &day, spend: &[1, 10] });
        assert_flood_evicts_no_exhausted_counter(&victims, &Flood { limit: &once, spend: &[1, 1] });
    }

    #[test]
    fn small_shares_of_long_windows_go_before_exhausted_limits() {
        let (limit, day) = (sliding(10, HOUR_MS), sliding(10, 24 * HOUR_MS));
        let victims = Victims { limit: &limit, spend: &ONE_BY_ONE };
        assert_flood_evicts_no_exhausted_counter(&victims, &Flood { limit: &day, spend: &[1, 1] });
        assert_flood_evicts_no_exhausted_counter(&victims, &Flood { limit: &day, spend: &[2] });
    }

    /// Counters that expire within a second protect nothing, although they are exhausted.
    #[test]
    fn what_ends_by_itself_soon_goes_before_what_stays() {
        let second = sliding(2, 1_000);
        let flood = Flood { limit: &second, spend: &[1, 1] };
        for limit in [sliding(10, HOUR_MS), limit(10, Algorithm::Total)] {
            assert_flood_evicts_no_exhausted_counter(
                &Victims { limit: &limit, spend: &ONE_BY_ONE[..9] },
                &flood,
            );
        }
        let once = limit(1, Algorithm::Total);
        assert_flood_evicts_no_exhausted_counter(&Victims { limit: &once, spend: &[1] }, &flood);
    }

    /// Each request of a caller leaves an idempotency mark, in addition to the one counter.
    #[test]
    fn marks_for_retries_go_before_counters_in_use() {
        let memory = Memory::new(1_000);
        let (minute, day) = (sliding(10, 60_000), sliding(1_000_000, 24 * HOUR_MS));
        let names: Vec<String> = (0..100).map(|number| format!("user {number}")).collect();
        let spent = |number: usize| u64::try_from(number).unwrap() % 4 + 1;
        for (number, name) in names.iter().enumerate() {
            (0..spent(number)).for_each(|_| assert!(spend(&memory, &minute, name)));
        }
        let key = |name: &str| {
            let mut key = Key::of_domain("d");
            key.push_value("name", name);
            key
        };
        for number in 0..3_000 {
            let mut batch = Batch::default();
            let key_index = batch.key_index(key("flood"));
            let mark = key("flood").mark(None, RetryId::Entry(&number.to_string()));
            let mark = batch.key_index(mark);
            let life_ms = 7 * 24 * 3_600_000;
            let once = IdempotencyMark { key_index: 0, retries_max: 5, life_ms, attempt: FINAL };
            let once = Some(Once::Mark(once).under(mark));
            let plain = Charge::plain(key_index, day.clone(), Hits::Spend(1));
            batch.charges.push(Charge { once, ..plain });
            assert!(memory.charge_at(&batch, AT).admitted);
        }
        assert_eq!(memory.used(&key("flood"), &day, AT), 3_000);
        for (number, name) in names.iter().enumerate() {
            assert_eq!(memory.used(&key(name), &minute, AT), spent(number), "{name}");
        }
        assert_eq!(memory.evicted(), 3_101 - 1_000);
    }

    /// If all counters are exhausted, one of them is evicted, and this is counted.
    #[test]
    fn evictions_of_exhausted_counters_are_counted() {
        let [limit, ..] = of_each_algorithm();
        let memory = Memory::new(100);
        for number in 0..200 {
            (0..10).for_each(|_| {
                spend(&memory, &limit, &format!("name {number}"));
            });
        }
        assert_eq!(memory.keys(), 100);
        let lost = memory.take_lost();
        let exhausted = lost.iter().filter(|(lost, _)| lost.exhausted).map(|(_, count)| count);
        assert_eq!(exhausted.sum::<u64>(), memory.evicted());
        assert_ne!(memory.evicted(), 0);
    }
}
