//! The arithmetic of one allowance: may these hits pass now, what remains, and when would they fit?
//!
//! Everything here is pure: the same limit, state, hits and time always give the same answer. A store
//! keeps one [`State`] for each limit under each key and uses it in this order: [`Limit::settle`] brings
//! it to the present, [`Limit::fit`] asks, [`Limit::charge`] spends once every limit of the request has
//! agreed, [`Limit::standing`] reports. Where a request may not spend all of a limit, or more than it, its
//! [`Allowance`] stand before these. `store/redis/charge.lua` and `special.lua` mirror all of them.

mod bonus;
mod bucket;
mod calendar;
mod fixed;
mod lending;
mod allowance;
mod name;
mod period;
#[cfg(test)]
mod properties;
mod refund;
mod sliding;
mod text;

use std::sync::Arc;

use crate::clock::Timestamp;

pub use allowance::{Allowance, AvailableCapacity, BonusLeft, Settled};
pub use bonus::Bonus;
pub use bucket::Bucket;
pub use calendar::{Calendar, CalendarUnit};
pub use fixed::Fixed;
pub use name::LimitName;
pub use period::Period;
pub use refund::Refund;
pub use sliding::Sliding;

/// The largest amount of a limit: sums of a few of them stay exact in a Lua number (2^53).
pub const AMOUNT_MAX: u64 = 1_000_000_000_000_000;

/// The largest count of a state. Overdraft lets one pass the amount, but the sums of counts and amounts
/// stay exact.
pub const COUNT_MAX: u64 = 4 * AMOUNT_MAX;

/// The latest instant that is told: Lua's numbers are exact up to it.
const FAR_MS: u64 = (1 << 53) - 1;

/// The longest window that slides, fills a bucket or is fixed: 366 days.
pub const WINDOW_MS_MAX: u64 = 366 * 86_400_000;

/// How much a request asks to spend of a limit, or gives back to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hits {
    /// Ask for this many; none is a peek, which always fits and changes nothing.
    Spend(u64),
    /// Give back this many; a counter never falls below zero.
    GiveBack(u64),
}

impl Hits {
    /// The number of hits. What exceeds every possible limit is cut to one more than the largest:
    /// no answer depends on the difference, and the arithmetic stays exact.
    pub fn amount(self) -> u64 {
        let (Self::Spend(hits) | Self::GiveBack(hits)) = self;
        hits.min(AMOUNT_MAX + 1)
    }
}

/// How an allowance comes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// In any interval of the window's length at most the amount.
    Sliding(Sliding),
    /// At most the amount in each window, aligned to the Unix epoch.
    Fixed(Fixed),
    /// A bucket that refills steadily.
    Bucket(Bucket),
    /// At most the amount in each calendar period of a time zone.
    Calendar(Calendar),
    /// At most the amount, ever, but for what is given back.
    Total,
}

/// What becomes of hits that a limit does not have, when it has some: for costs that are known only after
/// the work is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overdraft {
    /// They don't pass.
    #[default]
    None,
    /// They pass and count in full; the limit then refuses until they are paid back, by time or by hand.
    Allow,
    /// They pass; what the limit does not have is forgiven.
    Clip,
    /// They have passed already, while the store was out, and count in full though the limit has none.
    Owed,
}

/// One allowance: an amount, and how it comes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    amount: u64,
    algorithm: Algorithm,
    overdraft: Overdraft,
    tag: Arc<str>,
    name: Option<Arc<LimitName>>,
}

/// What a store keeps of one limit under one key. A new one has spent nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// Nothing spent.
    #[default]
    Empty,
    /// The slots of a sliding window.
    Sliding(sliding::Slots),
    /// The count of the window or period that ends at `end_ms`.
    Window { end_ms: u64, count: u64 },
    /// A bucket's debt at `at_ms`, in hits times milliseconds of the window.
    Bucket { at_ms: u64, debt: u64 },
    /// The count of a limit that never resets.
    Total { count: u64 },
}

/// Whether hits would pass, and if not, when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// They pass now.
    Now,
    /// They pass after so many milliseconds, not one earlier, if nobody else spends.
    AfterMs(u64),
    /// They don't pass however long one waits.
    Never,
}

/// How a limit stands after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The most hits that would pass now.
    pub remaining: u64,
    /// Milliseconds until the whole amount is available again if nobody spends; for fixed windows
    /// and calendar periods until the end of the present one. None if time alone brings nothing back.
    pub reset_ms: Option<u64>,
}

impl Limit {
    /// A limit of `amount` (at most [`AMOUNT_MAX`]) under `algorithm`.
    pub fn new(amount: u64, algorithm: Algorithm) -> Self {
        let tag = match &algorithm {
            Algorithm::Sliding(sliding) => format!("s{}", sliding.window_ms()),
            Algorithm::Fixed(fixed) => format!("f{}", fixed.window_ms()),
            Algorithm::Bucket(bucket) => format!("b{}", bucket.window_ms()),
            // Without the time zone: another one keeps the count of the period that is under way.
            Algorithm::Calendar(calendar) => format!("c{}", calendar.unit()),
            Algorithm::Total => "t".to_owned(),
        };
        let overdraft = Overdraft::None;
        Self { amount: amount.min(AMOUNT_MAX), algorithm, overdraft, tag: tag.into(), name: None }
    }

    /// The same limit with that overdraft.
    pub fn overdrawn(self, overdraft: Overdraft) -> Self {
        Self { overdraft, ..self }
    }

    /// The same limit of another amount, on the same counter.
    pub fn with_amount(&self, amount: u64) -> Self {
        let amount = amount.min(AMOUNT_MAX);
        let algorithm = match &self.algorithm {
            Algorithm::Sliding(sliding) => {
                Algorithm::Sliding(Sliding::new(sliding.window_ms(), amount))
            }
            Algorithm::Bucket(bucket) => Algorithm::Bucket(bucket.with_amount(amount)),
            other => other.clone(),
        };
        Self { amount, algorithm, ..self.clone() }
    }

    /// The same limit with a counter of its own among those of the same window in one rule. A mark begins with
    /// a character that is no letter, digit or `_`.
    pub fn marked(self, mark: &str) -> Self {
        Self { tag: format!("{}{mark}", self.tag).into(), ..self }
    }

    /// How much is allowed in a window (for a bucket: how much refills in one).
    pub fn amount(&self) -> u64 {
        self.amount
    }

    /// How the allowance comes back.
    pub fn algorithm(&self) -> &Algorithm {
        &self.algorithm
    }

    /// What becomes of hits that it does not have.
    pub fn overdraft(&self) -> Overdraft {
        self.overdraft
    }

    /// Names this limit's state among those of its rule. It holds the algorithm, the window and the mark, but
    /// not the amount: a changed amount keeps the count, a changed window starts a new one.
    pub fn tag(&self) -> &Arc<str> {
        &self.tag
    }

    /// The most that can be spent at once when nothing has been: the amount, or a bucket's burst.
    pub fn capacity(&self) -> u64 {
        match &self.algorithm {
            Algorithm::Bucket(bucket) => bucket.burst(),
            _ => self.amount,
        }
    }

    /// Drops from `state` what no longer counts at `now`. The other functions expect it done.
    pub fn settle(&self, state: &mut State, now: Timestamp) {
        let now_ms = now.as_ms();
        match (&self.algorithm, &mut *state) {
            (Algorithm::Sliding(sliding), State::Sliding(slots)) => sliding.settle(slots, now_ms),
            // A debt stays as it was written until it is paid: what it comes to follows from the time.
            (Algorithm::Bucket(bucket), State::Bucket { at_ms, debt }) => {
                if bucket.debt(*at_ms, *debt, now_ms) == 0 {
                    *state = State::Empty;
                }
            }
            (Algorithm::Fixed(_) | Algorithm::Calendar(_), State::Window { end_ms, .. }) => {
                if *end_ms <= now_ms {
                    *state = State::Empty;
                }
            }
            (Algorithm::Total, State::Total { .. }) => {}
            // A state of another algorithm can't stand under this limit's tag; nothing is spent then.
            (_, other) => *other = State::Empty,
        }
        if self.spent(state) == 0 {
            *state = State::Empty;
        }
    }

    /// Whether `hits` would pass on a settled state, if all of the capacity is open and nothing else.
    pub fn fit(&self, state: &State, hits: Hits, now: Timestamp) -> Fit {
        let Hits::Spend(_) = hits else {
            return Fit::Now;
        };
        let hits = hits.amount();
        if hits <= self.remaining(state, now) {
            return Fit::Now;
        }
        let used_max = self.capacity().checked_sub(hits);
        match used_max.and_then(|used_max| self.falls_to_ms(state, used_max, now)) {
            Some(at_ms) => Fit::AfterMs(at_ms.saturating_sub(now.as_ms())),
            None => Fit::Never,
        }
    }

    /// The hits that a settled state has spent, a bucket's debt rounded up. Overdraft and a lowered amount
    /// let them exceed the capacity.
    pub fn used(&self, state: &State, now: Timestamp) -> u64 {
        match (&self.algorithm, state) {
            (Algorithm::Bucket(bucket), State::Bucket { at_ms, debt }) => {
                bucket.used(bucket.debt(*at_ms, *debt, now.as_ms()))
            }
            _ => self.spent(state),
        }
    }

    /// When at most `used_max` of a settled state will be in use if nobody spends, in milliseconds since
    /// the Unix epoch. None if time alone doesn't bring it there.
    pub fn falls_to_ms(&self, state: &State, used_max: u64, now: Timestamp) -> Option<u64> {
        let now_ms = now.as_ms();
        let excess = self.used(state, now).saturating_sub(used_max);
        if excess == 0 {
            return Some(now_ms);
        }
        match (&self.algorithm, state) {
            (Algorithm::Sliding(sliding), State::Sliding(slots)) => {
                Some(sliding.freed_at_ms(slots, excess))
            }
            (Algorithm::Bucket(bucket), State::Bucket { at_ms, debt }) => {
                let debt = bucket.debt(*at_ms, *debt, now_ms);
                let at_ms = now_ms.max(*at_ms) + bucket.falls_to_ms(debt, used_max);
                Some(at_ms.min(FAR_MS))
            }
            (_, State::Window { end_ms, .. }) => Some(*end_ms),
            _ => None,
        }
    }

    /// Spends `hits` on a settled state, or gives them back. The caller has asked [`Limit::fit`].
    pub fn charge(&self, state: &mut State, hits: Hits, now: Timestamp) {
        let now_ms = now.as_ms();
        let amount = hits.amount();
        match (hits, &mut *state) {
            (_, _) if amount == 0 => return,
            (Hits::GiveBack(_), State::Empty) => return,
            (Hits::GiveBack(_), State::Sliding(slots)) => slots.give_back(amount),
            (Hits::GiveBack(_), State::Window { count, .. } | State::Total { count }) => {
                *count = count.saturating_sub(amount);
            }
            (Hits::Spend(_), State::Sliding(slots)) => {
                let Algorithm::Sliding(sliding) = &self.algorithm else {
                    return;
                };
                slots.add(sliding.slot_last_ms(now_ms), amount);
            }
            (Hits::Spend(_), State::Window { count, .. } | State::Total { count }) => {
                *count += amount;
            }
            (_, State::Bucket { at_ms, debt }) => {
                let Algorithm::Bucket(bucket) = &self.algorithm else {
                    return;
                };
                let owed = bucket.debt(*at_ms, *debt, now_ms);
                *debt = match hits {
                    Hits::Spend(_) => (owed + bucket.units(amount)).min(bucket::OWED_MAX),
                    Hits::GiveBack(_) => owed.saturating_sub(bucket.units(amount)),
                };
                *at_ms = now_ms.max(*at_ms);
            }
            (Hits::Spend(_), State::Empty) => *state = self.first(amount, now),
        }
        if self.spent(state) == 0 {
            *state = State::Empty;
        }
    }

    /// What remains on a settled state, and when it resets.
    pub fn standing(&self, state: &State, now: Timestamp) -> Standing {
        let now_ms = now.as_ms();
        let reset_ms = match (&self.algorithm, state) {
            (Algorithm::Total, _) => None,
            (Algorithm::Fixed(_) | Algorithm::Calendar(_), State::Empty) => {
                Some(self.window_end_ms(now).saturating_sub(now_ms))
            }
            _ => Some(self.expiry_ms(state).map_or(0, |end_ms| end_ms.saturating_sub(now_ms))),
        };
        Standing { remaining: self.remaining(state, now), reset_ms }
    }

    /// When a settled state will have become empty by itself, in milliseconds since the Unix epoch.
    /// None if it is empty now, and for a total, which never does.
    pub fn expiry_ms(&self, state: &State) -> Option<u64> {
        match (&self.algorithm, state) {
            (Algorithm::Sliding(sliding), State::Sliding(slots)) => {
                slots.newest_ms().map(|last_ms| last_ms + sliding.window_ms())
            }
            (_, State::Window { end_ms, .. }) => Some(*end_ms),
            (Algorithm::Bucket(bucket), State::Bucket { at_ms, debt }) => {
                Some((at_ms + bucket.drained_ms(*debt)).min(FAR_MS))
            }
            _ => None,
        }
    }

    /// The state after the first `amount` hits.
    fn first(&self, amount: u64, now: Timestamp) -> State {
        let now_ms = now.as_ms();
        match &self.algorithm {
            Algorithm::Sliding(sliding) => {
                let mut slots = sliding::Slots::default();
                slots.add(sliding.slot_last_ms(now_ms), amount);
                State::Sliding(slots)
            }
            Algorithm::Fixed(_) | Algorithm::Calendar(_) => {
                State::Window { end_ms: self.window_end_ms(now), count: amount }
            }
            Algorithm::Bucket(bucket) => {
                State::Bucket { at_ms: now_ms, debt: bucket.units(amount) }
            }
            Algorithm::Total => State::Total { count: amount },
        }
    }

    /// The end of the fixed window or calendar period that holds `now`.
    fn window_end_ms(&self, now: Timestamp) -> u64 {
        match &self.algorithm {
            Algorithm::Fixed(fixed) => fixed.end_ms(now.as_ms()),
            Algorithm::Calendar(calendar) => calendar.end_after(now).as_ms(),
            _ => now.as_ms(),
        }
    }

    /// What has been spent, in the units of the state.
    fn spent(&self, state: &State) -> u64 {
        match state {
            State::Empty => 0,
            State::Sliding(slots) => slots.total(),
            State::Window { count, .. } | State::Total { count } => *count,
            State::Bucket { debt, .. } => *debt,
        }
    }

    fn remaining(&self, state: &State, now: Timestamp) -> u64 {
        self.capacity().saturating_sub(self.used(state, now))
    }
}
