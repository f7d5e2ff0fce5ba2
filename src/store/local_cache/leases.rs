//! The leases of this sidecar: by key, in shards, bounded, and removed when idle.
//!
//! A request is decided here if this sidecar has leased hits for all of its charges. Otherwise the store charges it
//! exactly. If all its keys are hot, it takes hits ahead for later requests, unless another request that does so is in
//! flight. A shard's lock is held for the charges of one key at a time, and never across an await. If the pool of a
//! later charge has too few hits, those of earlier charges are put back.

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use foldhash::fast::RandomState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use smallvec::SmallVec;

use super::heat::Heat;
use super::leased_key::LeasedKey;
use super::monotonic::MonotonicTime;
use super::pool::{Call, HELD_SHARE, Leftover, Pool, Spent};
use crate::clock::Timestamp;
use crate::limit::{Algorithm, Fit, Hits, Limit};
use crate::lock::lock;
use crate::policy::{Key, Lease, Mode};
use crate::store::{Batch, Charge, Decision, INLINE_CAP, Outcome};

/// Number of shards: a power of two well above the cores of any sidecar.
const SHARDS: usize = 64;

/// Maximum number of keys with pools in one shard. Beyond it, a hot key is charged exactly.
const KEYS_MAX: usize = 128;

/// The hits that this sidecar has leased.
#[derive(Debug)]
pub struct Leases {
    shards: Box<[Mutex<Shard>]>,
    heat: Heat,
    /// Number of keys with pools, so that a sidecar without leases needs no lookup.
    keys_len: AtomicUsize,
    hasher: RandomState,
    answered: AtomicU64,
}

/// The pools of some keys, by the hash of the key.
#[derive(Debug, Default)]
struct Shard {
    keys: HashTable<LeasedKey>,
}

/// Hits of a lease that go back to the store unspent.
#[derive(Clone, Debug)]
pub struct UnusedLease {
    pub key: Key,
    pub limit: Arc<Limit>,
    pub left: Leftover,
}

/// Hits that were spent of one charge's pool, to be put back if another pool has too few.
struct Paid<'b> {
    charge: &'b Charge,
    until: Timestamp,
}

impl Leases {
    /// None yet.
    pub fn new() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            heat: Heat::new(),
            keys_len: AtomicUsize::new(0),
            hasher: RandomState::default(),
            answered: AtomicU64::new(0),
        }
    }

    /// Whether a batch could be decided here as a whole.
    pub fn may_serve(batch: &Batch) -> bool {
        batch.gauges.is_empty() && batch.charges.iter().all(can_lease)
    }

    /// Decides a batch for which [`Leases::may_serve`] by leased hits, if there are enough.
    pub fn spend(&self, batch: &Batch, now: MonotonicTime) -> Option<Outcome> {
        if self.is_empty() {
            return None;
        }
        let mut paid: SmallVec<[Paid<'_>; INLINE_CAP]> = SmallVec::new();
        let mut decisions = Vec::with_capacity(batch.charges.len());
        let mut at = Timestamp::default();
        for charges in by_key(batch) {
            let key = &batch.keys[charges[0].key_index];
            let hash = self.hash(key);
            let spent = self.shard(hash).spend(charges, (key, hash), now);
            let Some(spent) = spent else {
                self.unspend(batch, &paid);
                return None;
            };
            for (charge, Spent { standing, at: reported, until }) in charges.iter().zip(spent) {
                paid.push(Paid { charge, until });
                decisions.push(Decision::new(Fit::Now, standing));
                at = at.max(reported);
            }
        }
        self.answered.fetch_add(1, Ordering::Relaxed);
        Some(Outcome { decisions, ..Outcome::nothing(at) })
    }

    fn unspend(&self, batch: &Batch, paid: &[Paid<'_>]) {
        for Paid { charge, until } in paid {
            let key = &batch.keys[charge.key_index];
            let hash = self.hash(key);
            if let Some(pool) = self.shard(hash).pool(key, hash, &charge.limit) {
                pool.unspend(charge.hits.amount(), *until);
            }
        }
    }

    /// The hits to take ahead with each charge of a batch for which [`Leases::may_serve`]; None if it takes none.
    pub fn ask(&self, batch: &Batch, now: MonotonicTime) -> Option<SmallVec<[u64; INLINE_CAP]>> {
        let mut wants = SmallVec::new();
        let mut marked: SmallVec<[(&Key, u64); INLINE_CAP]> = SmallVec::new();
        let mut all = true;
        for charges in by_key(batch) {
            let key = &batch.keys[charges[0].key_index];
            let hash = self.hash(key);
            let mut shard = self.shard(hash);
            let known = shard.leased_key(key, hash).is_some();
            if !known && (!self.heat.touch(hash, now) || KEYS_MAX <= shard.keys.len()) {
                all = false;
                continue;
            }
            self.keys_len.fetch_add(usize::from(!known), Ordering::Relaxed);
            match shard.leased_key_or_new(key, hash).ask(charges, now) {
                Some(of_key) => {
                    wants.extend(of_key);
                    marked.push((key, hash));
                }
                None => all = false,
            }
        }
        if all && wants.iter().any(|hits| 0 < *hits) {
            return Some(wants);
        }
        for (key, hash) in marked {
            if let Some(leased_key) = self.shard(hash).leased_key(key, hash) {
                leased_key.asking = None;
            }
        }
        None
    }

    /// Stores the leases in an answer of the store, and adds this sidecar's hits to the remaining hits.
    pub fn learn(&self, batch: &Batch, outcome: &mut Outcome, call: Call) {
        if self.is_empty() {
            return;
        }
        let has_asked = batch.charges.iter().any(|charge| charge.ahead != 0);
        for (charge, decision) in batch.charges.iter().zip(&mut outcome.decisions) {
            let key = &batch.keys[charge.key_index];
            let hash = self.hash(key);
            let mut shard = self.shard(hash);
            let Some(leased_key) = shard.leased_key(key, hash) else { continue };
            if has_asked {
                leased_key.asking = None;
            }
            if let Some(pool) = leased_key.pool(&charge.limit) {
                pool.learn(decision, call);
            }
        }
    }

    /// Takes all hits of the counters that refused a batch: the request may pass with them.
    pub fn take_refused(
        &self,
        batch: &Batch,
        outcome: &Outcome,
        now: MonotonicTime,
    ) -> Vec<UnusedLease> {
        let mut unused = Vec::new();
        if self.is_empty() {
            return unused;
        }
        let refusing = |(_, decision): &(&Charge, &Decision)| decision.fit != Fit::Now;
        for (charge, _) in batch.charges.iter().zip(&outcome.decisions).filter(refusing) {
            let key = &batch.keys[charge.key_index];
            let hash = self.hash(key);
            let mut shard = self.shard(hash);
            let Some(leased_key) = shard.leased_key(key, hash) else { continue };
            let same = |pool: &&mut Pool| pool.limit.tag() == charge.limit.tag();
            for pool in leased_key.pools.iter_mut().filter(same) {
                while let Some(left) = pool.take(true, now) {
                    unused.push(UnusedLease { key: key.clone(), limit: pool.limit.clone(), left });
                }
            }
        }
        unused
    }

    /// Takes the rest of leases that have ended, of one slot of each pool, or with `all` of every lease, and removes
    /// idle pools.
    pub fn take_ended(&self, all: bool, now: MonotonicTime) -> Vec<UnusedLease> {
        let mut unused = Vec::new();
        for shard in &self.shards {
            let mut shard = lock(shard);
            let known = shard.keys.len();
            shard.keys.retain(|leased_key| {
                for pool in &mut leased_key.pools {
                    if let Some(left) = pool.take(all, now) {
                        let (key, limit) = (leased_key.key.clone(), pool.limit.clone());
                        unused.push(UnusedLease { key, limit, left });
                    }
                }
                leased_key.pools.retain(|pool| !pool.is_idle(now));
                !leased_key.pools.is_empty()
            });
            self.keys_len.fetch_sub(known - shard.keys.len(), Ordering::Relaxed);
        }
        unused
    }

    /// Puts hits back that the store could not take now: [`Leases::take_ended`] takes them again. Hits without space
    /// here stay charged in the store.
    pub fn put_back(&self, unused: Vec<UnusedLease>, now: MonotonicTime) {
        for UnusedLease { key, limit, left } in unused {
            let hash = self.hash(&key);
            let mut shard = self.shard(hash);
            let known = shard.leased_key(&key, hash).is_some();
            if !known && KEYS_MAX <= shard.keys.len() {
                continue;
            }
            self.keys_len.fetch_add(usize::from(!known), Ordering::Relaxed);
            if let Some(pool) = shard.leased_key_or_new(&key, hash).pool_or_new(&limit, 0, now) {
                pool.leave(left);
            }
        }
    }

    /// Leases that may be spent now.
    pub fn live(&self, now: MonotonicTime) -> usize {
        let live = |leased_key: &LeasedKey| {
            leased_key.pools.iter().filter(|pool| 0 < pool.left(now)).count()
        };
        let of_shard = |shard: &Mutex<Shard>| lock(shard).keys.iter().map(live).sum::<usize>();
        self.shards.iter().map(of_shard).sum()
    }

    /// Requests that were decided here since the start.
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    fn hash(&self, key: &Key) -> u64 {
        self.hasher.hash_one(key.as_str())
    }

    fn is_empty(&self) -> bool {
        self.keys_len.load(Ordering::Relaxed) == 0
    }

    fn shard(&self, hash: u64) -> MutexGuard<'_, Shard> {
        // The table uses the lowest and the highest bits.
        let place = usize::try_from((hash >> 32) % SHARDS as u64).expect("less than SHARDS");
        lock(&self.shards[place])
    }
}

impl Shard {
    fn leased_key(&mut self, key: &Key, hash: u64) -> Option<&mut LeasedKey> {
        self.keys.find_mut(hash, |leased_key| leased_key.key == *key)
    }

    fn leased_key_or_new(&mut self, key: &Key, hash: u64) -> &mut LeasedKey {
        let entry = self.keys.entry(
            hash,
            |leased_key| leased_key.key == *key,
            |leased_key| leased_key.hash,
        );
        match entry {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => entry.insert(LeasedKey::new(key.clone(), hash)).into_mut(),
        }
    }

    fn pool(&mut self, key: &Key, hash: u64, limit: &Limit) -> Option<&mut Pool> {
        self.leased_key(key, hash)?.pool(limit)
    }

    /// Spends from the pools of one key, if they have enough for all of the charges.
    fn spend(
        &mut self,
        charges: &[Charge],
        (key, hash): (&Key, u64),
        now: MonotonicTime,
    ) -> Option<SmallVec<[Spent; INLINE_CAP]>> {
        let leased_key = self.leased_key(key, hash)?;
        let mut has = charges.iter().map(|charge| {
            leased_key
                .pool(&charge.limit)
                .is_some_and(|pool| charge.hits.amount() <= pool.left(now))
        });
        if !has.all(|has| has) {
            return None;
        }
        let mut spent = SmallVec::new();
        for charge in charges {
            let pool = leased_key.pool(&charge.limit)?;
            pool.touch(charge.hits.amount(), now);
            spent.push(pool.spend(charge.hits.amount(), now)?);
        }
        Some(spent)
    }
}

/// Whether a charge's limit may be leased for it.
fn can_lease(charge: &Charge) -> bool {
    charge.lease == Lease::Auto
        && charge.mode == Mode::Enforce
        && charge.is_plain()
        && matches!(charge.hits, Hits::Spend(1..))
        && matches!(charge.limit.algorithm(), Algorithm::Sliding(_))
        && HELD_SHARE <= charge.limit.capacity()
}

/// The charges of a batch, those with one key adjacent.
fn by_key(batch: &Batch) -> impl Iterator<Item = &[Charge]> {
    batch.charges.chunk_by(|one, next| one.key_index == next.key_index)
}
