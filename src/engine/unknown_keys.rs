//! Counts the unknown API keys of each address, so that a flood of them does not reach the store.
//!
//! It has a fixed number of cells, to which addresses are assigned at random, so it needs no memory for an address. Addresses
//! with the same cell share its count: at worst an API key that is not cached is refused for some seconds.

use std::fmt;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use foldhash::fast::RandomState;

use crate::clock::Timestamp;
use crate::policy::ApiKeyPolicy;

/// Number of cells, a power of two.
const CELLS: usize = 1 << 14;

/// The part of an IPv6 address that one client has.
const CLIENT_BITS_V6: u32 = 64;

/// The bits of a cell with the count; the others have the number of the window.
const COUNT_BITS: u32 = 32;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;

/// The counts.
pub struct UnknownKeys {
    cells: Box<[AtomicU64]>,
    hasher: RandomState,
}

impl UnknownKeys {
    /// Nothing is counted yet.
    pub fn new() -> Self {
        let cells = (0..CELLS).map(|_| AtomicU64::new(0)).collect();
        Self { cells, hasher: RandomState::default() }
    }

    /// The time until an address may send unknown API keys again; None if it may now.
    pub fn wait(
        &self,
        policy: &ApiKeyPolicy,
        address: Option<IpAddr>,
        now: Timestamp,
    ) -> Option<Duration> {
        let (window, wait) = window(policy, now);
        let (counted_in, count) = split(self.cell(address).load(Ordering::Relaxed));
        (counted_in == window && u64::from(policy.unknown_max) <= count).then_some(wait)
    }

    /// Counts an unknown API key. Returns the time until the address may send another one if this one was too many.
    pub fn count(
        &self,
        policy: &ApiKeyPolicy,
        address: Option<IpAddr>,
        now: Timestamp,
    ) -> Option<Duration> {
        let (window, wait) = window(policy, now);
        let next = |cell| {
            let (counted_in, count) = split(cell);
            let count = if counted_in == window { count } else { 0 };
            Some(window << COUNT_BITS | (count + 1).min(COUNT_MASK))
        };
        let cell = self.cell(address);
        let before = cell.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        let (counted_in, count) = split(before.unwrap_or_default());
        (counted_in == window && u64::from(policy.unknown_max) <= count || policy.unknown_max == 0)
            .then_some(wait)
    }

    fn cell(&self, address: Option<IpAddr>) -> &AtomicU64 {
        let client = match address {
            None => 0,
            Some(IpAddr::V4(address)) => u128::from(address.to_bits()) + 1,
            Some(IpAddr::V6(address)) => address.to_bits() >> CLIENT_BITS_V6 << CLIENT_BITS_V6,
        };
        let hash = self.hasher.hash_one(client) % CELLS as u64;
        &self.cells[usize::try_from(hash).expect("it is below CELLS")]
    }
}

impl fmt::Debug for UnknownKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnknownKeys").finish_non_exhaustive()
    }
}

/// The number of the current window, and the time until its end.
fn window(policy: &ApiKeyPolicy, now: Timestamp) -> (u64, Duration) {
    let length = policy.unknown_window_ms.max(1);
    let wait = Duration::from_millis(length - now.as_ms() % length);
    ((now.as_ms() / length) & COUNT_MASK, wait)
}

fn split(cell: u64) -> (u64, u64) {
    (cell >> COUNT_BITS, cell & COUNT_MASK)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{CompileOptions, Source, compile};

    #[test]
    fn unknown_api_keys_are_counted_by_address_and_window() {
        let text = "{domain: d, api_keys: {unknown_keys: 2/10s}}".to_owned();
        let set = compile(&[Source { path: "a".to_owned(), text }], CompileOptions::default());
        let set = set.unwrap();
        let policy = set.api_key_domain(None).unwrap().api_keys.as_ref().unwrap();
        let keys = UnknownKeys::new();
        let check = |address: &str, ms, expected: Option<u64>| {
            let (address, at) = (address.parse().ok(), Timestamp::from_ms(ms));
            let wait = keys.count(policy, address, at);
            assert_eq!(wait, expected.map(Duration::from_millis), "{address:?} at {ms}");
        };
        check("192.0.2.1", 1_000, None);
        check("192.0.2.1", 2_000, None);
        check("192.0.2.1", 3_000, Some(7_000));
        check("192.0.2.2", 3_000, None);
        check("2001:db8::1", 3_000, None);
        check("2001:db8::2", 3_000, None);
        check("2001:db8::3", 4_000, Some(6_000));
        check("2001:db8:0:1::1", 4_000, None);
        let waits = |ms| keys.wait(policy, "192.0.2.1".parse().ok(), Timestamp::from_ms(ms));
        assert_eq!(waits(9_999), Some(Duration::from_millis(1)));
        assert_eq!(waits(10_000), None);
        check("192.0.2.1", 10_000, None);
    }

    #[test]
    fn a_flood_of_addresses_needs_no_memory() {
        let keys = UnknownKeys::new();
        let cells = keys.cells.len();
        let text = "{domain: d, api_keys: {}}".to_owned();
        let set = compile(&[Source { path: "a".to_owned(), text }], CompileOptions::default());
        let set = set.unwrap();
        let policy = set.api_key_domain(None).unwrap().api_keys.as_ref().unwrap();
        for index in 0..100_000_u32 {
            let address = std::net::Ipv4Addr::from_bits(index);
            keys.count(policy, Some(address.into()), Timestamp::from_ms(1));
        }
        assert_eq!(keys.cells.len(), cells);
    }
}
