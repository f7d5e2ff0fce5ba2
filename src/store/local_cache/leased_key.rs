//! The pools of one key, and whether a request that takes hits ahead is in flight.

use std::sync::Arc;

use smallvec::SmallVec;

use super::monotonic::MonotonicTime;
use super::pool::Pool;
use crate::limit::Limit;
use crate::policy::Key;
use crate::store::{Charge, INLINE_CAP};

/// Maximum number of pools of one key: limits of one rule, in each amount by tier.
const POOLS_MAX: usize = 32;

/// Maximum wait for a request that takes hits ahead, before another one may do so; in milliseconds.
const ASKING_MS: u64 = 100;

/// The pools of one key.
#[derive(Debug)]
pub struct LeasedKey {
    pub key: Key,
    pub hash: u64,
    pub pools: Vec<Pool>,
    /// The time since which a request that takes hits ahead is in flight.
    pub asking: Option<MonotonicTime>,
}

impl LeasedKey {
    /// A key without pools.
    pub fn new(key: Key, hash: u64) -> Self {
        Self { key, hash, pools: Vec::new(), asking: None }
    }

    /// The pool of a limit.
    pub fn pool(&mut self, limit: &Limit) -> Option<&mut Pool> {
        let mut pools = self.pools.iter_mut();
        pools.find(|pool| is_same(&pool.limit, limit))
    }

    /// The pool of a limit; None if it is new and there is no space.
    pub fn pool_or_new(
        &mut self,
        limit: &Arc<Limit>,
        hits: u64,
        now: MonotonicTime,
    ) -> Option<&mut Pool> {
        if self.pool(limit).is_none() && self.pools.len() < POOLS_MAX {
            self.pools.push(Pool::new(limit.clone(), hits, now));
        }
        self.pool(limit)
    }

    /// Counts a request, and returns the hits that its charges take ahead; None if no lease pays off.
    pub fn ask(
        &mut self,
        charges: &[Charge],
        now: MonotonicTime,
    ) -> Option<SmallVec<[u64; INLINE_CAP]>> {
        let mut wants: Option<SmallVec<[u64; INLINE_CAP]>> = Some(SmallVec::new());
        for charge in charges {
            let hits = charge.hits.amount();
            let want = self.pool_or_new(&charge.limit, hits, now).and_then(|pool| {
                pool.touch(hits, now);
                pool.wants(hits, now)
            });
            match (want, &mut wants) {
                (Some(want), Some(wants)) => wants.push(want),
                _ => wants = None,
            }
        }
        if self.asking.is_some_and(|since| now.ms_since(since) < ASKING_MS) {
            return None;
        }
        self.asking = wants.is_some().then_some(now);
        wants
    }
}

/// Whether hits of one limit may be spent for the other: not if the amounts differ.
fn is_same(one: &Arc<Limit>, other: &Limit) -> bool {
    std::ptr::eq(&raw const **one, other)
        || (one.capacity() == other.capacity() && one.tag() == other.tag())
}
