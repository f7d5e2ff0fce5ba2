//! How limits stood when the store was last available: what is free of them is shared out during an outage.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use quick_cache::sync::Cache;

use crate::clock::Timestamp;
use crate::limit::{Algorithm, Limit};
use crate::policy::Key;

/// How a limit stood under a key.
#[derive(Clone, Copy, Debug)]
pub struct KnownUse {
    pub used: u64,
    pub at: Timestamp,
    /// When all of it would be available again.
    pub until: Timestamp,
}

/// How limits stood under their keys.
#[derive(Debug)]
pub struct KnownUses {
    uses: Cache<u64, KnownUse>,
    hasher: RandomState,
}

impl KnownUses {
    /// Nothing is known yet. About `keys_max` are kept.
    pub fn new(keys_max: usize) -> Self {
        Self { uses: Cache::new(keys_max), hasher: RandomState::default() }
    }

    /// Keeps how a limit stands under a key.
    pub fn insert(&self, key: &Key, limit: &Limit, known: KnownUse) {
        self.uses.insert(self.name(key, limit), known);
    }

    /// How a limit stands under a key at `now`; None if that is unknown, or it is whole again.
    pub fn get(&self, key: &Key, limit: &Limit, now: Timestamp) -> Option<KnownUse> {
        let known = self.uses.get(&self.name(key, limit)).filter(|known| now < known.until)?;
        let Algorithm::Bucket(_) = limit.algorithm() else { return Some(known) };
        // A bucket fills steadily; of the others nothing is sure to come back before all is.
        let ms = |from| known.until.since(from).as_millis();
        let left = (u128::from(known.used) * ms(now)).div_ceil(ms(known.at).max(1));
        let used = u64::try_from(left).unwrap_or(u64::MAX).min(known.used);
        Some(KnownUse { used, ..known })
    }

    fn name(&self, key: &Key, limit: &Limit) -> u64 {
        self.hasher.hash_one((key, limit.tag()))
    }
}
