//! The store of an engine: one of those there are, chosen when the process starts.

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
