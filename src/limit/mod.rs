//! The arithmetic of one allowance: may these hits pass now, what remains, and when would they fit?
//!
//! Everything here is pure: the same limit, state, hits and time always give the same answer. A store
//! keeps one [`State`] for each limit under each key and uses it in this order: [`Limit::settle`] brings
//! it to the present, [`Limit::fit`] asks, [`Limit::charge`] spends once every limit of the request has
//! agreed, [`Limit::standing`] reports. Where a request may not spend all of a limit, or more than it, its
//! [`Allowance`] stand before these. `store/redis/charge.lua` and `special.lua` mirror all of them.

mod adjust;
mod algorithm;
mod allowance;
mod arithmetic;
mod bonus;
mod bonus_left;
mod bucket;
mod calendar;
mod fixed;
mod grace;
mod held;
mod lending;
mod name;
mod period;
#[cfg(test)]
mod properties;
mod recurrence;
mod refund;
mod schedule;
mod sliding;
mod state;
mod stored;
mod text;
mod thresholds;
mod total;
mod window;

use std::sync::Arc;

use crate::clock::Timestamp;

pub use adjust::{AdjustReason, Adjusted, Adjustment, AdjustmentState, Signal, Trend};
pub use algorithm::{Algorithm, is_lasting};
pub use allowance::{Allowance, AvailableCapacity, GraceLeft, Settled};
pub use bonus::{BONUS_PRIORITY_DEFAULT, BONUS_PRIORITY_MAX, Bonus};
pub use bonus_left::{BonusLeft, PeriodLeft};
pub use bucket::Bucket;
pub use calendar::{Calendar, CalendarUnit};
pub use fixed::Fixed;
pub use grace::{Grace, GraceBegun};
pub use held::{Held, HeldFrom, Holdings};
pub use name::LimitName;
pub use period::Period;
pub use recurrence::{BonusPeriod, BonusUse, Recurrence};
pub use refund::Refund;
pub use schedule::{
    Condition, DAY_MINUTES, DateRange, Effect, HourRange, Outlook, Scale, Scheduled, Span,
    Timetable, pay,
};
pub use sliding::Sliding;
pub use state::State;
pub use thresholds::{Crossed, Reported, ReportedThreshold, THRESHOLDS_MAX, Thresholds};

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
    thresholds: Option<Box<Thresholds>>,
    grace: Option<Box<Grace>>,
    scheduled: Option<Arc<Scheduled>>,
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

impl Standing {
    /// Before it is reported.
    pub const UNKNOWN: Self = Self { remaining: 0, reset_ms: None };
}

impl Limit {
    /// A limit of `amount` (at most [`AMOUNT_MAX`]) under `algorithm`.
    pub fn new(amount: u64, algorithm: Algorithm) -> Self {
        let (amount, tag) = (amount.min(AMOUNT_MAX), algorithm.tag().into());
        let overdraft = Overdraft::None;
        Self {
            amount,
            algorithm,
            overdraft,
            tag,
            name: None,
            thresholds: None,
            grace: None,
            scheduled: None,
        }
    }

    /// The same limit with that overdraft.
    pub fn overdrawn(self, overdraft: Overdraft) -> Self {
        self.edited(|limit| Self { overdraft, ..limit })
    }

    /// The same limit with a counter of its own among those of the same window in one rule. A mark begins with
    /// a character that is no letter, digit or `_`.
    pub fn marked(self, mark: &str) -> Self {
        self.edited(|limit| Self { tag: format!("{}{mark}", limit.tag).into(), ..limit })
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

    /// A limit on the same counter that is as good as never used up, so that what remains of it says what is in use. None for a
    /// bucket on a schedule, because what it owes depends on its rates, and for one that never refills.
    pub fn measuring(self: &Arc<Self>, now: Timestamp) -> Option<Self> {
        let is_bucket = matches!(self.algorithm, Algorithm::Bucket(_));
        if is_bucket && self.scheduled.is_some() {
            return None;
        }
        let limit = self.at(now);
        let (amount, algorithm) = match &limit.algorithm {
            Algorithm::Bucket(bucket) => (limit.amount, Algorithm::Bucket(bucket.of_most()?)),
            other => (AMOUNT_MAX, other.clone()),
        };
        let tag = limit.tag.clone();
        Some(Self { tag, ..Self::new(amount, algorithm) })
    }

    /// The most that can be spent at once when nothing has been: the amount, or a bucket's burst.
    pub fn capacity(&self) -> u64 {
        match &self.algorithm {
            Algorithm::Bucket(bucket) => bucket.burst(),
            _ => self.amount,
        }
    }
}
