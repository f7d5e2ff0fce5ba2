//! The pools of one key, and whether a request is on its way that takes hits ahead.

use std::sync::Arc;

use smallvec::SmallVec;

use super::monotonic::MonotonicTime;
use super::pool::Pool;
use crate::limit::Limit;
use crate::policy::Key;
use crate::store::{Charge, INLINE_CAP};

/// Pools of one key: limits of one rule, each of as many amounts as tiers ask for.
const POOLS_MAX: usize = 32;

/// How long the hits that a request asked for are waited for, before another asks; in milliseconds.
const ASKING_MS: u64 = 100;

/// The pools of one key.
#[derive(Debug)]
pub struct LeasedKey {
    pub key: Key,
    pub hash: u64,
    pub pools: Vec<Pool>,
    /// Since when a request is on its way that takes hits ahead.
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

    /// The pool of a limit that is asked for so many `hits`; None if it is new and there is no room.
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

    /// Counts a request, and says how much its charges take ahead; None if nothing pays.
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

/// Whether hits of one limit may be spent for the other: those of another amount may not.
fn is_same(one: &Arc<Limit>, other: &Limit) -> bool {
    std::ptr::eq(&raw const **one, other)
        || (one.capacity() == other.capacity() && one.tag() == other.tag())
}
