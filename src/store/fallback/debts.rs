//! Calls that wait until the store is available: hits that were spent meanwhile, and hits to give back.

use std::mem;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use indexmap::IndexMap;
use smallvec::smallvec;

use crate::clock::Timestamp;
use crate::limit::{Hits, Limit, Overdraft};
use crate::lock::lock;
use crate::policy::{Key, OnOutage};
use crate::store::embedded::Spent;
use crate::store::{Batch, Charge, Once, TokenSource};

/// A batch that charges a debt in the store, or gives hits back. It may be sent again.
#[derive(Debug)]
pub struct Debt {
    pub batch: Batch,
    /// The time at which nothing of it counts any more; None if it always counts.
    until: Option<Timestamp>,
}

/// Hits to give back to the store.
#[derive(Clone, Debug)]
pub struct Credit {
    pub limit: Arc<Limit>,
    pub hits: u64,
}

/// Debts without an answer of the store, and credits.
#[derive(Debug)]
pub struct Debts {
    /// Hits to give back that were not spent here.
    credits: Mutex<IndexMap<(Key, Arc<str>), Credit>>,
    credits_max: usize,
    /// Debts that may have been paid: their calls had no answer.
    unsure: Mutex<Vec<Debt>>,
    tokens: TokenSource,
    /// Whether there may be any; every request reads it.
    may_owe: AtomicBool,
    paid: AtomicU64,
}

impl Debts {
    /// Without debts. At most `credits_max` credits are kept.
    pub fn new(credits_max: usize) -> Self {
        Self {
            credits: Mutex::default(),
            credits_max,
            unsure: Mutex::default(),
            tokens: TokenSource::default(),
            may_owe: AtomicBool::new(false),
            paid: AtomicU64::new(0),
        }
    }

    /// Whether there may be debts.
    pub fn may_owe(&self) -> bool {
        self.may_owe.load(Ordering::SeqCst)
    }

    /// Sets that there may be debts.
    pub fn expect(&self) {
        self.may_owe.store(true, Ordering::SeqCst);
    }

    /// Checks whether there are debts, here or in `spent`.
    pub fn look(&self, spent: impl FnOnce() -> bool) {
        // A concurrent debt sets the flag after it was added, and earlier ones are visible here.
        self.may_owe.store(false, Ordering::SeqCst);
        if spent() || !lock(&self.credits).is_empty() || !lock(&self.unsure).is_empty() {
            self.expect();
        }
    }

    /// Hits that were charged in the store later.
    pub fn paid(&self) -> u64 {
        self.paid.load(Ordering::Relaxed)
    }

    /// Counts hits that were charged in the store.
    pub fn pay(&self, batch: &Batch) {
        let hits = batch.charges.iter().map(|charge| charge.hits.amount()).sum();
        self.paid.fetch_add(hits, Ordering::Relaxed);
    }

    /// The debt of hits that were spent of a limit.
    pub fn charge(&self, spent: Spent) -> Debt {
        let limit = Arc::new(Limit::clone(&spent.limit).overdrawn(Overdraft::Owed));
        Debt { batch: self.batch(spent.key, limit, Hits::Spend(spent.hits)), until: spent.until }
    }

    /// Adds hits to give back. Beyond the maximum they stay charged.
    pub fn credit(&self, key: Key, credit: Credit) {
        let mut credits = lock(&self.credits);
        let name = (key, credit.limit.tag().clone());
        if let Some(known) = credits.get_mut(&name) {
            known.hits = known.hits.saturating_add(credit.hits);
        } else if credits.len() < self.credits_max {
            credits.insert(name, credit);
        }
    }

    /// Takes the debts that may have been paid and still count.
    pub fn take_unsure(&self, now: Timestamp) -> Vec<Debt> {
        let mut unsure = mem::take(&mut *lock(&self.unsure));
        unsure.retain(|debt| debt.until.is_none_or(|until| now < until));
        unsure
    }

    /// Takes the hits to give back.
    pub fn take_credits(&self) -> Vec<Debt> {
        let credits = mem::take(&mut *lock(&self.credits)).into_iter();
        let debts = credits.map(|((key, _), Credit { limit, hits })| {
            let batch = self.batch(key, limit, Hits::GiveBack(hits));
            Debt { batch, until: None }
        });
        debts.collect()
    }

    /// Keeps a debt whose call had no answer.
    pub fn owe_again(&self, debt: Debt) {
        lock(&self.unsure).push(debt);
        self.expect();
    }

    fn batch(&self, key: Key, limit: Arc<Limit>, hits: Hits) -> Batch {
        let once = Some(Once::Token(self.tokens.next()));
        let charge = Charge { on_outage: OnOutage::Local, once, ..Charge::plain(0, limit, hits) };
        Batch { keys: smallvec![key], charges: vec![charge], gauges: Vec::new() }
    }
}
