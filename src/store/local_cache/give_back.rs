//! Gives unspent leased hits back to the store.

use std::sync::atomic::Ordering;

use super::LocalCache;
use super::leases::UnusedLease;
use super::pool::{ENDED_MAX, Leftover};
use crate::clock::Now;
use crate::limit::Hits;
use crate::policy::Key;
use crate::store::{Arrival, Batch, Charge, Store, StoreError};

/// Maximum number of charges in a batch that gives leases back.
const GIVE_BACK_CHARGES_MAX: usize = 16;

/// Number of batches that a give-back may join.
const RECENT_MAX: usize = 8;

impl<S: Store> LocalCache<S> {
    /// Gives back what is left of leases that have ended, and removes pools without requests. Must be called a few
    /// times a second.
    pub async fn maintain(&self, now: Now) {
        self.give_back_ended(false, now).await;
    }

    /// Gives back all leases at the shutdown.
    pub async fn close(&self, now: Now) {
        self.give_back_ended(true, now).await;
    }

    /// Ended leases count as held by this sidecar until they are given back.
    async fn give_back_ended(&self, all: bool, now: Now) {
        let mut unmade = Vec::new();
        for _ in 0..=ENDED_MAX {
            let unused = self.leases.take_ended(all, self.time(now));
            if unused.is_empty() {
                break;
            }
            unmade.append(&mut self.give_leases_back(&unused, now).await);
        }
        self.leases.put_back(unmade, self.time(now));
    }

    /// Gives hits back, now or when the store is available again.
    pub(super) async fn return_leases(&self, unused: &[UnusedLease], now: Now) {
        let unmade = self.give_leases_back(unused, now).await;
        self.leases.put_back(unmade, self.time(now));
    }

    /// Gives hits back, and returns those that the store certainly did not take and still counts. If the result of a
    /// call is unknown, it is not repeated: the hits then count until their slot leaves the window.
    async fn give_leases_back(&self, unused: &[UnusedLease], now: Now) -> Vec<UnusedLease> {
        let mut unmade = Vec::new();
        for batch in batches(unused, |key| self.store.shard_of(key)) {
            match self.give_back(&batch, Arrival::whole(now)).await {
                Ok(_) => {
                    let hits = batch.charges.iter().map(|charge| charge.hits.amount()).sum();
                    self.returned.fetch_add(hits, Ordering::Relaxed);
                }
                // If the key holds no counter, there is nothing to give back.
                Err(StoreError::Foreign { .. }) => {}
                Err(error) if error.is_unmade() => unmade.extend(unused_leases(&batch)),
                Err(_) => {}
            }
        }
        unmade.retain(|unused| now.timestamp() < unused.left.until);
        unmade
    }
}

/// Batches that give leases back, each to one shard and with each counter once.
fn batches(unused: &[UnusedLease], shard_of: impl Fn(&Key) -> u32) -> Vec<Batch> {
    let mut batches: Vec<Batch> = Vec::new();
    for UnusedLease { key, limit, left } in unused {
        let fits = |batch: &Batch| {
            let mut charges = batch.charges.iter();
            let tag = |charge: &Charge| charge.limit.tag() == limit.tag();
            batch.charges.len() < GIVE_BACK_CHARGES_MAX
                && batch.keys.first().is_none_or(|first| shard_of(first) == shard_of(key))
                && !charges.any(|known| tag(known) && batch.keys[known.key_index] == *key)
        };
        // Leases of one counter are adjacent, so only few batches have to be checked.
        let recent = batches.len().saturating_sub(RECENT_MAX);
        let index = match batches[recent..].iter().position(fits) {
            Some(index) => recent + index,
            None => {
                batches.push(Batch::default());
                batches.len() - 1
            }
        };
        let batch = &mut batches[index];
        let key_index = batch.key_index(key.clone());
        batch.charges.push(Charge {
            group: batch.charges.len(),
            until: Some(left.until),
            ..Charge::plain(key_index, limit.clone(), Hits::GiveBack(left.hits))
        });
    }
    batches
}

/// The leases that a batch of [`batches`] gives back.
fn unused_leases(batch: &Batch) -> impl Iterator<Item = UnusedLease> {
    batch.charges.iter().filter_map(|charge| {
        let left = Leftover { hits: charge.hits.amount(), until: charge.until? };
        let key = batch.keys[charge.key_index].clone();
        Some(UnusedLease { key, limit: charge.limit.clone(), left })
    })
}
