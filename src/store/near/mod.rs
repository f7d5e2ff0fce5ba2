//! What a sidecar answers without asking the store that it shares with others.
//!
//! Two things are known here for a while: refusals that hold until a certain time (`refusals.rs`), and hits
//! that were taken ahead (`leases.rs`). What neither knows goes to the store and is decided there exactly. A
//! request that the store refuses while this sidecar has hits of the counter gives those back and is asked
//! for once more, so that nobody is refused for what its own sidecar holds.

mod heat;
mod leases;
mod moment;
mod pool;
mod refusals;
#[cfg(test)]
mod simulation;

use std::hash::BuildHasher;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;

use foldhash::fast::RandomState;

use super::Batch;
use super::Charge;
use super::Open;
use super::Outcome;
use super::Store;
use super::StoreError;
use crate::clock::Now;
use crate::clock::Stopwatch;
use crate::limit::Hits;
use crate::policy::Key;
use crate::policy::Lease;
use crate::policy::Mode;

use leases::Leases;
use leases::Return;
use moment::Moment;
use moment::Watch;
use pool::Call;
use refusals::Refusals;

/// Charges of one batch that gives leases back.
const RETURNS_MAX: usize = 16;

/// A store that several sidecars share.
pub trait SharedStore: Send + Sync {
    /// Charges as [`Store::charge`] does, for a request that has waited for the store before: it waits for
    /// what is left of its deadline.
    fn charge_after(
        &self,
        batch: &Batch,
        now: Now,
        waited: Duration,
    ) -> impl Future<Output = Result<Outcome, StoreError>> + Send;
}

/// A shared store, and what is known of it here.
#[derive(Debug)]
pub struct Near<S> {
    store: S,
    watch: Watch,
    refusals: Refusals,
    leases: Leases,
    hasher: RandomState,
    returned: AtomicU64,
}

/// What was done here since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NearCounts {
    /// Requests that were refused because a refusal was known to hold.
    pub refused: u64,
    /// Requests that passed by hits that were taken ahead.
    pub leased: u64,
    /// Hits that were taken ahead and went back.
    pub returned: u64,
    /// Leases that may be spent now.
    pub live: usize,
}

impl<S> Near<S> {
    /// Nothing is known yet.
    pub fn new(store: S) -> Self {
        Self {
            store,
            watch: Watch::start(),
            refusals: Refusals::new(),
            leases: Leases::new(),
            hasher: RandomState::default(),
            returned: AtomicU64::new(0),
        }
    }

    /// The store.
    pub fn store(&self) -> &S {
        &self.store
    }

    /// What was done here.
    pub fn counts(&self, now: Now) -> NearCounts {
        NearCounts {
            refused: self.refusals.answered(),
            leased: self.leases.answered(),
            returned: self.returned.load(Ordering::Relaxed),
            live: self.leases.live(self.watch.moment(now)),
        }
    }

    /// Decides a batch by what is known here; None if that is not enough.
    pub fn answer(&self, batch: &Batch, now: Now) -> Option<Outcome> {
        let moment = self.watch.moment(now);
        let leased = Leases::may_serve(batch)
            .then(|| self.leases.spend(batch, |key| self.hash(key), moment))
            .flatten();
        leased.or_else(|| self.refusals.find(batch, moment))
    }

    fn hash(&self, key: &Key) -> u64 {
        self.hasher.hash_one(key.as_str())
    }

    fn moment(&self, now: Now) -> Moment {
        self.watch.moment(now)
    }
}

impl<S: SharedStore> Near<S> {
    /// Has the store decide a batch for which there is no [`Near::answer`].
    ///
    /// # Errors
    /// As those of [`SharedStore::charge_after`].
    pub async fn charge_after(
        &self,
        batch: &Batch,
        now: Now,
        waited: Duration,
    ) -> Result<Outcome, StoreError> {
        let stopwatch = Stopwatch::start();
        let outcome = self.ask(batch, now, waited).await?;
        if outcome.admitted {
            return Ok(outcome);
        }
        let moment = self.moment(now);
        let returns = self.leases.take_refused(batch, |key| self.hash(key), &outcome, moment);
        if returns.is_empty() {
            return Ok(outcome);
        }
        // Boxed, because it is large and seldom.
        let again = Box::pin(async {
            self.give_back(&returns, now).await;
            self.ask(batch, now, waited + stopwatch.elapsed()).await
        });
        Ok(again.await.unwrap_or(outcome))
    }

    /// Gives back what is left of leases that have ended, and forgets what nobody asks for any more. To be
    /// called a few times a second.
    pub async fn tend(&self, now: Now) {
        let returns = self.leases.take_ended(false, self.moment(now));
        self.give_back(&returns, now).await;
    }

    /// Gives back what is left of all leases, because nobody will ask here any more.
    pub async fn close(&self, now: Now) {
        let returns = self.leases.take_ended(true, self.moment(now));
        self.give_back(&returns, now).await;
    }

    /// Asks the store, for hits ahead too if that pays, and learns what it answers.
    async fn ask(&self, batch: &Batch, now: Now, waited: Duration) -> Result<Outcome, StoreError> {
        let mark = self.refusals.mark();
        self.refusals.give_back(batch);
        let hash_of = |key: &Key| self.hash(key);
        let sent = self.moment(now);
        let wants = Leases::may_serve(batch).then(|| self.leases.ask(batch, hash_of, sent));
        let asking = wants.flatten().map(|wants| {
            let mut asking = batch.clone();
            let charges = asking.charges.iter_mut().zip(wants);
            charges.for_each(|(charge, hits)| charge.ahead = hits);
            asking
        });
        let batch = asking.as_ref().unwrap_or(batch);
        let outcome = self.store.charge_after(batch, now, waited).await;
        self.refusals.give_back(batch);
        let mut outcome = outcome?;
        let call = Call { sent, received: self.moment(now), at: outcome.at };
        self.leases.learn(batch, hash_of, &mut outcome, call);
        self.refusals.keep(batch, mark, &outcome, call, now);
        Ok(outcome)
    }

    /// Gives hits back, each once: whether a call that failed was made is not known, and hits that stay
    /// counted only wait until their slot leaves the window.
    async fn give_back(&self, returns: &[Return], now: Now) {
        for batch in batches(returns) {
            self.refusals.give_back(&batch);
            let outcome = self.store.charge_after(&batch, now, Duration::ZERO).await;
            self.refusals.give_back(&batch);
            if outcome.is_ok() {
                let hits = batch.charges.iter().map(|charge| charge.hits.amount()).sum();
                self.returned.fetch_add(hits, Ordering::Relaxed);
            }
        }
    }
}

impl<S: SharedStore> Store for Near<S> {
    async fn charge(&self, batch: &Batch, now: Now) -> Result<Outcome, StoreError> {
        match self.answer(batch, now) {
            Some(outcome) => Ok(outcome),
            None => self.charge_after(batch, now, Duration::ZERO).await,
        }
    }
}

/// Batches that give hits back, in each of which a counter stands once.
fn batches(returns: &[Return]) -> Vec<Batch> {
    let mut batches: Vec<Batch> = Vec::new();
    for Return { key, limit, left } in returns {
        let fits = |batch: &&mut Batch| {
            let mut charges = batch.charges.iter();
            let tag = |charge: &Charge| charge.limit.tag() == limit.tag();
            batch.charges.len() < RETURNS_MAX
                && !charges.any(|known| tag(known) && batch.keys[known.key_index] == *key)
        };
        if batches.last_mut().filter(fits).is_none() {
            batches.push(Batch::default());
        }
        let batch = batches.last_mut().expect("one was pushed if there was none");
        let key_index = batch.key_index(key.clone());
        batch.charges.push(Charge {
            key_index,
            group: batch.charges.len(),
            mode: Mode::Enforce,
            limit: limit.clone(),
            hits: Hits::GiveBack(left.hits),
            open: Open::all(),
            bonuses: Vec::new(),
            lease: Lease::Off,
            ahead: 0,
            until: Some(left.until),
        });
    }
    batches
}
