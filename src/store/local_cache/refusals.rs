//! Cached refusals: each is kept for as long as the store says that it is valid.
//!
//! A refusal of the store has the time at which the request would pass if no others spend. Other requests only make it
//! later, so until then the same request is refused, unless hits are given back. This sidecar knows its own give-backs.
//! It sees those of other sidecars when it asks the store again, after [`HOLD_MS_MAX`] at the latest.
//!
//! The reported limits are as old as the refusal, except for requests that have passed here since. So is the time at
//! which the request would pass: requests through other sidecars since then may make it later.
//!
//! That time counts from the start of the call, not from its answer. The store decided at some time in between, which
//! is unknown. But a request that is sent that much later is also decided that much later, if its latency is the same:
//! it passes, and a request one millisecond earlier doesn't.
//!
//! A give-back is counted before its call and after it, so that a refusal whose call started before or during it is not
//! kept, or not found.

use std::fmt;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use foldhash::fast::RandomState;
use quick_cache::sync::Cache;

use super::monotonic::MonotonicTime;
use super::pool::Call;
use crate::limit::{Fit, Hits};
use crate::policy::Key;
use crate::store::{Batch, Charge, Outcome};

/// Maximum time to keep a refusal, in milliseconds: the maximum delay until a give-back of another sidecar is seen.
pub const HOLD_MS_MAX: u64 = 250;

/// Maximum number of cached refusals. Others are decided in the store again.
const REFUSALS_MAX: usize = 8_192;

/// Changes are counted by parts of the keys, so that those of other keys rarely matter.
const PARTS: usize = 16_384;

/// The cached refusals.
pub struct Refusals {
    held: Cache<u128, Arc<Held>>,
    /// When the last of them ends, so that no lookup is made without need.
    last_ends: AtomicU64,
    /// Give-backs and requests that passed, by part.
    changes: Box<[AtomicU64]>,
    /// Give-backs.
    give_backs: AtomicU64,
    hashers: [RandomState; 2],
    answered: AtomicU64,
}

/// A cached refusal.
struct Held {
    outcome: Outcome,
    /// The start of its call. Its times count from then.
    from: MonotonicTime,
    ends: MonotonicTime,
    /// The number of changes under the keys of its batch.
    changes: u64,
}

/// The number of give-backs when a request was sent.
#[derive(Clone, Copy, Debug)]
pub struct GiveBackMark(u64);

impl Refusals {
    /// None yet.
    pub fn new() -> Self {
        Self {
            held: Cache::new(REFUSALS_MAX),
            last_ends: AtomicU64::new(0),
            changes: (0..PARTS).map(|_| AtomicU64::new(0)).collect(),
            give_backs: AtomicU64::new(0),
            hashers: [RandomState::default(), RandomState::default()],
            answered: AtomicU64::new(0),
        }
    }

    /// The cached refusal of a batch, if there is a valid one.
    pub fn find(&self, batch: &Batch, now: MonotonicTime) -> Option<Outcome> {
        if !self.may_know(now) || !may_hold(batch) {
            return None;
        }
        let held = self.held.get(&self.name(batch))?;
        if now < held.from || held.ends <= now || held.changes != self.changes(batch) {
            return None;
        }
        Some(moved_on(&held.outcome, now.ms_since(held.from)))
    }

    /// Must be taken before a batch is sent.
    pub fn mark(&self) -> GiveBackMark {
        GiveBackMark(self.give_backs.load(Ordering::SeqCst))
    }

    /// Stores the refusal of a batch, unless hits were given back since the mark.
    pub fn keep(&self, batch: &Batch, outcome: &Outcome, (mark, call): (GiveBackMark, Call)) {
        if outcome.admitted || !may_hold(batch) {
            return;
        }
        let hold_ms = holds_ms(outcome).saturating_sub(call.lead_ms).min(HOLD_MS_MAX);
        let ends = call.sent.after_ms(hold_ms);
        if ends <= call.received {
            return;
        }
        let changes = self.changes(batch);
        if mark.0 != self.give_backs.load(Ordering::SeqCst) {
            return;
        }
        let held = Held { outcome: outcome.clone(), from: call.sent, ends, changes };
        self.held.insert(self.name(batch), Arc::new(held));
        self.last_ends.fetch_max(ends.as_us(), Ordering::Relaxed);
    }

    /// Removes refusals for the keys under which a batch gives back. Must be called before it is sent, and after its
    /// answer.
    pub fn give_back(&self, batch: &Batch) {
        let gives = |charge: &&Charge| matches!(charge.hits, Hits::GiveBack(_));
        for charge in batch.charges.iter().filter(gives) {
            self.part(&batch.keys[charge.key_index]).fetch_add(1, Ordering::SeqCst);
            self.give_backs.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Removes refusals for the keys of a batch that has passed: they would be valid, but fewer hits remain now.
    pub fn pass(&self, batch: &Batch, now: MonotonicTime) {
        if self.may_know(now) {
            batch.keys.iter().for_each(|key| {
                self.part(key).fetch_add(1, Ordering::Relaxed);
            });
        }
    }

    /// Counts a request that was refused here.
    pub fn count(&self) {
        self.answered.fetch_add(1, Ordering::Relaxed);
    }

    /// Requests that were refused here since the start.
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Whether there may be any.
    fn may_know(&self, now: MonotonicTime) -> bool {
        now.as_us() < self.last_ends.load(Ordering::Relaxed)
    }

    /// The number of changes under the keys of a batch. Each only grows, and so does the sum.
    fn changes(&self, batch: &Batch) -> u64 {
        let of_key = |key| self.part(key).load(Ordering::SeqCst);
        batch.keys.iter().map(of_key).fold(0, u64::wrapping_add)
    }

    fn part(&self, key: &Key) -> &AtomicU64 {
        let hash = self.hashers[0].hash_one(key.as_str());
        &self.changes[usize::try_from(hash % PARTS as u64).expect("less than PARTS")]
    }

    /// A number for everything that determines the store's answer to a batch; from two hashes, so that no two batches
    /// have the same by chance.
    fn name(&self, batch: &Batch) -> u128 {
        let [high, low] = self.hashers.each_ref().map(|hasher| {
            let mut hasher = hasher.build_hasher();
            for key in &batch.keys {
                key.as_str().hash(&mut hasher);
            }
            for charge in &batch.charges {
                hash_charge(charge, &mut hasher);
            }
            u128::from(hasher.finish())
        });
        high << 64 | low
    }
}

impl fmt::Debug for Refusals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refusals").field("held", &self.held.len()).finish_non_exhaustive()
    }
}

/// Whether refusals of a batch depend only on its counters and the time. The store must decide each time if a batch has
/// gauges, gives back, may count although it is refused, or has idempotency keys, or if reservations count: a settlement
/// may give hits back.
fn may_hold(batch: &Batch) -> bool {
    let depends_on_counters = |charge: &Charge| {
        charge.bonuses.is_empty()
            && charge.open.pressed.is_empty()
            && matches!(charge.hits, Hits::Spend(_))
            && !charge.is_debit()
            && charge.once.is_none()
            && charge.reservation.is_none()
    };
    batch.gauges.is_empty() && batch.charges.iter().all(depends_on_counters)
}

/// How long a refusal is valid: until the first charge that doesn't fit would, or the first limit resets.
fn holds_ms(outcome: &Outcome) -> u64 {
    let changes = outcome.decisions.iter().flat_map(|decision| {
        let fits_ms = match decision.fit {
            Fit::AfterMs(ms) => Some(ms),
            Fit::Now | Fit::Never => None,
        };
        [fits_ms, decision.standing.reset_ms.filter(|ms| 0 < *ms)]
    });
    changes.flatten().min().unwrap_or(u64::MAX)
}

/// The same refusal this many milliseconds later.
fn moved_on(outcome: &Outcome, ms: u64) -> Outcome {
    let mut outcome = outcome.clone();
    outcome.at = outcome.at.after(Duration::from_millis(ms));
    for decision in &mut outcome.decisions {
        if let Fit::AfterMs(wait_ms) = &mut decision.fit {
            *wait_ms = wait_ms.saturating_sub(ms);
        }
        let reset_ms = decision.standing.reset_ms;
        decision.standing.reset_ms = reset_ms.map(|reset_ms| reset_ms.saturating_sub(ms));
    }
    outcome
}

fn hash_charge(charge: &Charge, hasher: &mut impl Hasher) {
    let Charge { key_index, group, mode, limit, hits, open, refused, part, .. } = charge;
    let numbers = (limit.amount(), limit.capacity(), limit.reference_capacity().min(open.hits));
    (key_index, group, *mode as u8, limit.overdraft() as u8, *refused as u8, part).hash(hasher);
    (numbers, hits.amount(), limit.tag()).hash(hasher);
    if let Some(grace) = limit.grace() {
        (grace.over(), grace.for_ms()).hash(hasher);
    }
}
