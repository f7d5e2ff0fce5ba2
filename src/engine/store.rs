//! The store of an engine: one of those there are, chosen when the process starts.

use crate::clock::Now;
use crate::store::Batch;
use crate::store::Outcome;
use crate::store::Store;
use crate::store::StoreError;
use crate::store::memory::Memory;
use crate::store::redis::Redis;

/// One of the stores.
#[derive(Debug)]
pub enum AnyStore {
    /// Counters in this process.
    Memory(Memory),
    /// Counters in a Redis.
    Redis(Redis),
}

impl Store for AnyStore {
    async fn charge(&self, batch: &Batch, now: Now) -> Result<Outcome, StoreError> {
        match self {
            Self::Memory(memory) => memory.charge(batch, now).await,
            Self::Redis(redis) => redis.charge(batch, now).await,
        }
    }
}
