//! The last known state of limits: its free part is shared by the sidecars during an outage.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use quick_cache::sync::Cache;

use crate::clock::Timestamp;
use crate::limit::{Algorithm, Limit};
use crate::policy::Key;

/// The state of a limit under a key.
#[derive(Clone, Copy, Debug)]
pub struct KnownUse {
    pub used: u64,
    pub at: Timestamp,
    /// The time at which nothing of it is in use.
    pub until: Timestamp,
}

/// The states of limits under their keys.
#[derive(Debug)]
pub struct KnownUses {
    uses: Cache<u64, KnownUse>,
    hasher: RandomState,
}

impl KnownUses {
    /// Empty. About `keys_max` states are kept.
    pub fn new(keys_max: usize) -> Self {
        Self { uses: Cache::new(keys_max), hasher: RandomState::default() }
    }

    /// Stores the state of a limit under a key.
    pub fn insert(&self, key: &Key, limit: &Limit, known: KnownUse) {
        self.uses.insert(self.name(key, limit), known);
    }

    /// The state of a limit under a key at `now`; None if it is unknown, or nothing is in use any more.
    pub fn get(&self, key: &Key, limit: &Limit, now: Timestamp) -> Option<KnownUse> {
        let known = self.uses.get(&self.name(key, limit)).filter(|known| now < known.until)?;
        let Algorithm::Bucket(_) = limit.algorithm() else { return Some(known) };
        // A bucket fills steadily; of other limits no hits are certain to come back before the reset.
        let ms = |from| known.until.since(from).as_millis();
        let left = (u128::from(known.used) * ms(now)).div_ceil(ms(known.at).max(1));
        let used = u64::try_from(left).unwrap_or(u64::MAX).min(known.used);
        Some(KnownUse { used, ..known })
    }

    fn name(&self, key: &Key, limit: &Limit) -> u64 {
        self.hasher.hash_one((key, limit.tag()))
    }
}
