//! Refunds to the store: hits that one shard charged for a request that another shard refused.
//!
//! A key has one call in flight at a time; later refunds are in the next call. So the numbers of the calls ascend, the
//! store recognizes a call that it has made, and a call whose answer was lost is sent again.

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::future::join_all;
use indexmap::IndexMap;
use tokio::time::Instant;

use crate::clock::{Now, Timestamp, monotonic_now};
use crate::limit::{Algorithm, Bonus, Hits, Limit};
use crate::lock::lock;
use crate::policy::{Key, OnOutage};
use crate::store::local_cache::LocalCache;
use crate::store::{
    Amends, Arrival, Batch, Charge, IdempotencyMark, Once, Open, Outcome, Reservation, Store,
    StoreError, TokenSource,
};

/// Keys with refunds. Beyond it, overcharges stay charged until they leave the window.
const KEYS_MAX: usize = 16_384;

/// Calls that one request makes for a key: its own, and one for refunds added meanwhile. The next request, or
/// [`Refunds::maintain`], sends the rest.
const CALLS_MAX: usize = 2;

/// Number of keys for which [`Refunds::maintain`] sends calls at a time.
const TENDED_MAX: usize = 64;

/// How long a call without an answer is sent again. The store remembers its calls for longer.
pub const SENT_AGAIN: Duration = Duration::from_secs(600);

/// Hits of a limit that were charged for a refused request.
#[derive(Clone, Debug)]
pub struct Overcharge {
    pub limit: Arc<Limit>,
    pub hits: u64,
    /// When they were spent.
    pub at: Timestamp,
    /// Until when they count.
    pub until: Timestamp,
    /// How much of the limit's capacity was open to the charge.
    pub open: u64,
    /// The bonuses from which they may have been taken.
    pub bonuses: Vec<Bonus>,
    /// What else is put right.
    pub amends: Option<Box<Amends>>,
    pub on_outage: OnOutage,
    /// For a charge with an idempotency key.
    pub undo: Option<Undo>,
    /// For a charge of a limit on which reservations count: what releases the hits that it holds.
    pub reservation: Option<Box<Reservation>>,
}

/// The idempotency mark of a charge.
#[derive(Clone, Debug)]
pub struct Undo {
    key: Key,
    mark: IdempotencyMark,
}

impl Undo {
    /// The mark of a charge in a batch with these keys; None without an idempotency key.
    pub fn of(once: Once, keys: &[Key]) -> Option<Self> {
        let Once::Mark(mark) = once else { return None };
        Some(Self { key: keys[usize::from(mark.key_index)].clone(), mark })
    }
}

/// Refunds that the store has not confirmed.
#[derive(Debug)]
pub struct Refunds {
    tokens: TokenSource,
    keys: Mutex<IndexMap<Key, OfKey>>,
}

/// A completed refund with its outcome.
pub type Refunded = (Batch, Outcome);

/// The refunds of one key. No two have the same tag.
#[derive(Debug, Default)]
struct OfKey {
    waiting: Vec<Overcharge>,
    /// The call that is sent and unconfirmed, and the time since which it is sent.
    sent: Option<(Batch, Instant)>,
    /// A request is sending it.
    is_busy: bool,
}

impl Overcharge {
    /// Adds hits of the same limit. The earliest end counts for all, which is too early for some and too late for none; a
    /// bucket refills hits one after the other.
    fn join(&mut self, other: Self) {
        self.hits = self.hits.saturating_add(other.hits);
        self.until = match self.limit.algorithm() {
            Algorithm::Bucket(_) => self.refilled_with(&other),
            _ => self.until.min(other.until),
        };
        self.at = self.at.max(other.at);
        self.open = other.open;
        if let (Some(step), Some(more)) = (&mut self.reservation, &other.reservation) {
            **step = step.joined(**more);
        }
        match (&mut self.amends, other.amends) {
            (Some(known), Some(amends)) => known.join(&mut self.bonuses, *amends, other.bonuses),
            (_, amends) => (self.amends, self.bonuses) = (amends, other.bonuses),
        }
    }

    /// When a bucket has refilled these hits and others, if it refills no other ones before.
    fn refilled_with(&self, other: &Self) -> Timestamp {
        let (first, second) = if self.at <= other.at { (self, other) } else { (other, self) };
        let takes_ms = second.until.as_ms().saturating_sub(second.at.as_ms());
        first.until.max(second.at).after(Duration::from_millis(takes_ms))
    }

    /// The charge that gives them back.
    fn charge(self, group: usize) -> Charge {
        Charge {
            group,
            reservation: self.reservation,
            open: Open { hits: self.open, ..Open::all() },
            bonuses: self.bonuses,
            amends: self.amends,
            on_outage: self.on_outage,
            until: Some(self.until),
            ..Charge::plain(0, self.limit, Hits::GiveBack(self.hits))
        }
    }
}

/// The batch that refunds overcharges under a key.
pub fn refund_batch(key: Key, overcharges: Vec<Overcharge>) -> Batch {
    let mut batch = Batch { keys: std::iter::once(key).collect(), ..Batch::default() };
    for (group, overcharge) in overcharges.into_iter().enumerate() {
        let once = overcharge
            .undo
            .clone()
            .map(|undo| Once::Undo(undo.mark).under(batch.key_index(undo.key)));
        batch.charges.push(Charge { once, ..overcharge.charge(group) });
    }
    batch
}

impl Refunds {
    /// No refunds yet.
    pub fn new() -> Self {
        Self { tokens: TokenSource::default(), keys: Mutex::default() }
    }

    /// Whether every refund is confirmed.
    pub fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Sends the [added](Refunds::add) refunds of a key, within the request's deadline. If another request is sending,
    /// that one sends them afterwards. [`Refunds::maintain`] sends the rest. Returns the calls that were answered.
    pub async fn give_back<S: Store>(
        &self,
        cache: &LocalCache<S>,
        key: &Key,
        arrival: Arrival,
    ) -> Vec<Refunded> {
        let mut all = Vec::new();
        for _ in 0..CALLS_MAX {
            match self.send(cache, key, arrival).await {
                Sent::No => break,
                Sent::InVain => {}
                Sent::Refunded(returned) => all.push(*returned),
            }
        }
        all
    }

    /// Sends the remaining refunds: calls whose answers were lost, and those added after the last call. Returns the
    /// calls that were answered.
    pub async fn maintain<S: Store>(&self, cache: &LocalCache<S>, now: Now) -> Vec<Refunded> {
        let keys: Vec<Key> = self.lock().keys().take(TENDED_MAX).cloned().collect();
        let sent =
            join_all(keys.iter().map(|key| self.send(cache, key, Arrival::whole(now)))).await;
        let returned = sent.into_iter().filter_map(|sent| match sent {
            Sent::No | Sent::InVain => None,
            Sent::Refunded(returned) => Some(*returned),
        });
        returned.collect()
    }

    /// Adds overcharges. They are refunded even if the request that spent them is cancelled.
    pub fn add(&self, key: &Key, overcharges: Vec<Overcharge>) {
        let mut keys = self.lock();
        if KEYS_MAX <= keys.len() && !keys.contains_key(key) {
            return;
        }
        let of_key = keys.entry(key.clone()).or_default();
        for overcharge in overcharges {
            match of_key
                .waiting
                .iter_mut()
                .find(|known| known.limit.tag() == overcharge.limit.tag())
            {
                Some(known) => known.join(overcharge),
                None => of_key.waiting.push(overcharge),
            }
        }
    }

    /// Makes one call for a key.
    async fn send<S: Store>(&self, cache: &LocalCache<S>, key: &Key, arrival: Arrival) -> Sent {
        let Some(batch) = self.begin(key) else { return Sent::No };
        let mut sending = Sending { refunds: self, key, arrived: false };
        // If the key holds no counter, there is nothing to give back.
        let answer = cache.give_back(&batch, arrival).await;
        sending.arrived = matches!(answer, Ok(_) | Err(StoreError::Foreign { .. }));
        match answer {
            Ok(outcome) => Sent::Refunded(Box::new((batch, outcome))),
            Err(StoreError::Foreign { .. }) => Sent::InVain,
            Err(_) => Sent::No,
        }
    }

    /// The call to make now for a key; None if there is nothing to send, or another request is sending.
    fn begin(&self, key: &Key) -> Option<Batch> {
        let mut keys = self.lock();
        let of_key = keys.get_mut(key).filter(|of_key| !of_key.is_busy)?;
        of_key.sent.take_if(|(_, since)| SENT_AGAIN < monotonic_now() - *since);
        if of_key.sent.is_none() && !of_key.waiting.is_empty() {
            let mut batch = refund_batch(key.clone(), mem::take(&mut of_key.waiting));
            let once = Some(Once::Token(self.tokens.next()));
            batch.charges.iter_mut().for_each(|charge| charge.once = once);
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
        lock(&self.keys)
    }
}

/// The result of a call.
enum Sent {
    /// There was nothing to send, or no answer.
    No,
    /// It was answered, and the key is no counter.
    InVain,
    Refunded(Box<Refunded>),
}

/// Marks a key as being sent until it is dropped, also when the request is cancelled.
struct Sending<'s> {
    refunds: &'s Refunds,
    key: &'s Key,
    arrived: bool,
}

impl Drop for Sending<'_> {
    fn drop(&mut self) {
        let mut keys = self.refunds.lock();
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
