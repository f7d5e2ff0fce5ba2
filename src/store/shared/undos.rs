//! Refunds of charges with idempotency keys: hits that one shard charged for a request that another shard refused.
//!
//! Such a refund removes its attempt from the mark, so it is made once however often it is sent. Hits are given back
//! with the last attempt: if another attempt has passed, they belong to it. Unlike other refunds (`refunds.rs`) those
//! of one key can't be added up.

use std::sync::Mutex;

use futures_util::future::join_all;
use indexmap::IndexMap;
use tokio::time::Instant;

use super::refunds::{Overcharge, Refunded, SENT_AGAIN, refund_batch};
use crate::clock::{Now, monotonic_now};
use crate::lock::lock;
use crate::policy::Key;
use crate::store::local_cache::LocalCache;
use crate::store::{Arrival, Batch, Store, StoreError, TokenSource};

/// Maximum number of refunds that wait for an answer. Beyond it, overcharges stay charged until they leave the window.
const WAITING_MAX: usize = 16_384;

/// Refunds that [`Undos::maintain`] sends at a time.
const TENDED_MAX: usize = 64;

/// Refunds that the store has not confirmed.
#[derive(Debug, Default)]
pub struct Undos {
    attempts: TokenSource,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    last: u64,
    /// By number, each with the time since which it is sent.
    batches: IndexMap<u64, (Batch, Instant)>,
}

impl Undos {
    /// A unique number for an attempt at a request.
    pub fn attempt(&self) -> u64 {
        self.attempts.attempt()
    }

    /// Whether every refund is confirmed.
    pub fn is_empty(&self) -> bool {
        lock(&self.waiting).batches.is_empty()
    }

    /// Adds overcharges under a key; they are refunded even if the request that spent them is cancelled. Returns the
    /// number for [`Undos::send`]; None if there is no space.
    pub fn add(&self, key: &Key, overcharges: Vec<Overcharge>) -> Option<u64> {
        let mut waiting = lock(&self.waiting);
        if WAITING_MAX <= waiting.batches.len() {
            return None;
        }
        waiting.last += 1;
        let number = waiting.last;
        let batch = refund_batch(key.clone(), overcharges);
        waiting.batches.insert(number, (batch, monotonic_now()));
        Some(number)
    }

    /// Sends a refund; None if it was not answered.
    pub async fn send<S: Store>(
        &self,
        cache: &LocalCache<S>,
        number: u64,
        arrival: Arrival,
    ) -> Option<Refunded> {
        let batch = lock(&self.waiting).batches.get(&number).map(|(batch, _)| batch.clone())?;
        let answer = cache.give_back(&batch, arrival).await;
        // If the key holds no counter, there is nothing to give back.
        if matches!(answer, Ok(_) | Err(StoreError::Foreign { .. })) {
            lock(&self.waiting).batches.swap_remove(&number);
        }
        Some((batch, answer.ok()?))
    }

    /// Sends the remaining refunds. Returns those that were answered.
    pub async fn maintain<S: Store>(&self, cache: &LocalCache<S>, now: Now) -> Vec<Refunded> {
        let numbers: Vec<u64> = {
            let mut waiting = lock(&self.waiting);
            waiting.batches.retain(|_, (_, since)| monotonic_now() - *since < SENT_AGAIN);
            waiting.batches.keys().take(TENDED_MAX).copied().collect()
        };
        let sending = numbers.into_iter();
        let sending = sending.map(|number| self.send(cache, number, Arrival::whole(now)));
        join_all(sending).await.into_iter().flatten().collect()
    }
}
