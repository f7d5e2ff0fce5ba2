//! The keys of sums. In a cluster all keys of a period have one slot. Callers are spread over many small hashes, which Redis
//! packs.

use crate::store::sums::{PLACES, SumsPeriod, SumsTable, place};

/// The prefix of all keys, with the version of their format.
const PREFIX: &str = "tgu1";

/// Number of hashes for the callers of a period, and maximum number of callers in each: together at least 10,240
/// callers before the first one is full.
pub const SHARDS: u32 = PLACES / 64;
pub const SHARD_CALLERS_MAX: usize = 240;

/// Number of hashes for more callers, if all are kept: a million callers fill them up to the size that Redis packs. The
/// callers of one of them come from the same first hash.
pub const SPILL_SHARDS: u32 = PLACES;

/// The key of a table, without the prefix of all keys. Its period is the hash tag.
pub fn key(period: SumsPeriod, suffix: &str) -> String {
    format!("{PREFIX}{{{period}}}{suffix}")
}

/// The suffix of the key of a table; keys of callers have a number after it.
pub fn suffix(table: SumsTable) -> &'static str {
    match table {
        SumsTable::Names => "s",
        SumsTable::Totals => "t",
        SumsTable::Nameless => "n",
        SumsTable::Others => "o",
        SumsTable::Callers => "c",
    }
}

/// The suffix of the hash that a caller is in, unless it was full.
pub fn shard(caller: &str) -> String {
    format!("c{}", place(caller) / (PLACES / SHARDS))
}

/// The suffix of the hash that a caller is in if the first one was full.
pub fn spill(caller: &str) -> String {
    format!("x{}", place(caller))
}
