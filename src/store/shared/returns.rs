//! Hits on their way back to the store, because a part of a request charged them in vain.
//!
//! Those of one key go back in one call at a time, and what comes meanwhile goes with the next. So calls can carry
//! numbers that only grow, the store knows one that it has made, and one whose answer was lost is sent again.

use std::mem;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use futures_util::future::join_all;
use indexmap::IndexMap;
use tokio::time::Instant;

use super::super::near::Near;
use super::super::near::SharedStore;
use crate::clock::Now;
use crate::clock::Timestamp;
use crate::clock::monotonic_now;
use crate::limit::Bonus;
use crate::limit::Hits;
use crate::limit::Limit;
use crate::policy::Key;
use crate::policy::OnOutage;
use crate::store::Arrival;
use crate::store::Batch;
use crate::store::Charge;
use crate::store::Outcome;
use crate::store::StoreError;
use crate::store::TokenSource;

/// Keys of which hits may be on their way. What finds no room stays charged, as long as it counts.
const KEYS_MAX: usize = 16_384;

/// Calls that one request makes for a key: its own, and one for those who came meanwhile. The next who comes, or
/// [`Returns::tend`], goes on.
const CALLS_MAX: usize = 2;

/// Keys that are tended to at a time.
const TENDED_MAX: usize = 64;

/// How long a call is sent again that nobody answers. The records remember longer what they have made.
const SENT_AGAIN: Duration = Duration::from_secs(600);

/// Hits of one limit that come back.
#[derive(Clone, Debug)]
pub struct Back {
    pub limit: Arc<Limit>,
    pub hits: u64,
    /// Until when they count.
    pub until: Timestamp,
    /// Those that they may have been taken from.
    pub bonuses: Vec<Bonus>,
    pub on_outage: OnOutage,
}

/// Hits on their way.
#[derive(Debug)]
pub struct Returns {
    tokens: TokenSource,
    keys: Mutex<IndexMap<Key, OfKey>>,
}

/// A call that brought hits back, and what the store said of it.
pub type Returned = (Batch, Outcome);

/// Those of one key. No two have the same tag.
#[derive(Debug, Default)]
struct OfKey {
    waiting: Vec<Back>,
    /// What was sent and has not arrived for sure, and since when.
    sent: Option<(Batch, Instant)>,
    /// Somebody is sending.
    is_busy: bool,
}

impl Back {
    /// Adds others of the same limit. Those that count shortest say how long all do, which is too short for some and
    /// too long for none.
    fn join(&mut self, other: Self) {
        self.hits = self.hits.saturating_add(other.hits);
        self.until = self.until.min(other.until);
        self.bonuses = other.bonuses;
    }

    /// The charge that brings them back.
    fn charge(self, group: usize) -> Charge {
        Charge {
            group,
            bonuses: self.bonuses,
            on_outage: self.on_outage,
            until: Some(self.until),
            ..Charge::plain(0, self.limit, Hits::GiveBack(self.hits))
        }
    }
}

/// A batch that brings hits back under a key.
pub fn batch_of(key: Key, backs: Vec<Back>) -> Batch {
    let charges = backs.into_iter().enumerate().map(|(group, back)| back.charge(group));
    Batch { keys: std::iter::once(key).collect(), charges: charges.collect(), gauges: Vec::new() }
}

impl Returns {
    /// Nothing is on its way yet.
    pub fn new() -> Self {
        Self { tokens: TokenSource::default(), keys: Mutex::default() }
    }

    /// Whether nothing is on its way.
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Sends what was [added](Returns::add) under a key, as long as a request may wait; if somebody is just doing so, he does
    /// it after. What the request's time is too short for is left to [`Returns::tend`]. Tells the calls that arrived.
    pub async fn give_back<S: SharedStore>(
        &self,
        near: &Near<S>,
        key: &Key,
        arrival: Arrival,
    ) -> Vec<Returned> {
        let mut all = Vec::new();
        for _ in 0..CALLS_MAX {
            match self.send(near, key, arrival).await {
                Sent::No => break,
                Sent::InVain => {}
                Sent::Returned(returned) => all.push(*returned),
            }
        }
        all
    }

    /// Sends what is left: calls whose answers were lost, and what came when their senders were done. Tells those that arrived.
    pub async fn tend<S: SharedStore>(&self, near: &Near<S>, now: Now) -> Vec<Returned> {
        let keys: Vec<Key> = self.lock().keys().take(TENDED_MAX).cloned().collect();
        let sent = join_all(keys.iter().map(|key| self.send(near, key, Arrival::whole(now)))).await;
        let returned = sent.into_iter().filter_map(|sent| match sent {
            Sent::No | Sent::InVain => None,
            Sent::Returned(returned) => Some(*returned),
        });
        returned.collect()
    }

    /// Notes hits that come back. From now on they do, whatever becomes of the request that spent them.
    pub fn add(&self, key: &Key, backs: Vec<Back>) {
        let mut keys = self.lock();
        if KEYS_MAX <= keys.len() && !keys.contains_key(key) {
            return;
        }
        let of_key = keys.entry(key.clone()).or_default();
        for back in backs {
            match of_key.waiting.iter_mut().find(|known| known.limit.tag() == back.limit.tag()) {
                Some(known) => known.join(back),
                None => of_key.waiting.push(back),
            }
        }
    }

    /// Makes one call for a key.
    async fn send<S: SharedStore>(&self, near: &Near<S>, key: &Key, arrival: Arrival) -> Sent {
        let Some(batch) = self.begin(key) else { return Sent::No };
        let mut sending = Sending { returns: self, key, arrived: false };
        // Where something else stands than the counter, nothing can be given back.
        let answer = near.give_back(&batch, arrival).await;
        sending.arrived = matches!(answer, Ok(_) | Err(StoreError::Foreign { .. }));
        match answer {
            Ok(outcome) => Sent::Returned(Box::new((batch, outcome))),
            Err(StoreError::Foreign { .. }) => Sent::InVain,
            Err(_) => Sent::No,
        }
    }

    /// What is to be sent now for a key; None if there is nothing, or somebody does so.
    fn begin(&self, key: &Key) -> Option<Batch> {
        let mut keys = self.lock();
        let of_key = keys.get_mut(key).filter(|of_key| !of_key.is_busy)?;
        of_key.sent.take_if(|(_, since)| SENT_AGAIN < monotonic_now() - *since);
        if of_key.sent.is_none() && !of_key.waiting.is_empty() {
            let mut batch = batch_of(key.clone(), mem::take(&mut of_key.waiting));
            let token = Some(self.tokens.next());
            batch.charges.iter_mut().for_each(|charge| charge.token = token);
            of_key.sent = Some((batch, monotonic_now()));
        }
        match &of_key.sent {
            Some((batch, _)) => {
                let batch = batch.clone();
                of_key.is_busy = true;
                Some(batch)
            }
            None => {
                keys.swap_remove(key);
                None
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, IndexMap<Key, OfKey>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What became of a call.
enum Sent {
    /// There was nothing to send, or it did not arrive.
    No,
    /// It arrived, and there was nothing that could take hits back.
    InVain,
    Returned(Box<Returned>),
}

/// Somebody who sends, until this goes, also if nobody waits for the answer any more.
struct Sending<'s> {
    returns: &'s Returns,
    key: &'s Key,
    arrived: bool,
}

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        let mut keys = self.returns.lock();
        if let Some(of_key) = keys.get_mut(self.key) {
            of_key.is_busy = false;
            if self.arrived {
                of_key.sent = None;
            }
            if of_key.sent.is_none() && of_key.waiting.is_empty() {
                keys.swap_remove(self.key);
            }
        }
    }
}
