//! Amounts that follow a schedule: the limit as it is now, as it was, and as it will be.
//!
//! A limit with a schedule is one counter whatever its amount. What is in use stays in use when the amount changes: a
//! window or a total is then measured by the new amount, and a bucket pays what it owes at the rate of each time.

use std::fmt;
use std::sync::Arc;

use super::super::{AMOUNT_MAX, Algorithm, Limit, Sliding, State};
use super::timeline::Span;
use super::timetable::Timetable;
use crate::clock::Timestamp;

/// Stretches that a store is told after the present one: a promised wait sees so many edges.
const LATER_MAX: usize = 8;

/// Stretches before it, and their age: what a bucket has owed for longer it pays at the rate of the oldest.
const PAST_MAX: usize = 8;
const PAST_MS: u64 = 32 * 86_400_000;

/// Hundredths of a percent of hundredths of a percent.
const REFERENCE_CAPACITY: u64 = 100_000_000;

/// The parts of a scale that make a whole.
const WHOLE: u32 = 10_000;

/// So much of an amount, also more than all of it; exact to a hundredth of a percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Scale(u32);

/// What becomes of a limit while a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// So much of its amount, or of a caller's own.
    Scale(Scale),
    /// This amount instead of the policy's; a caller's own amount stays.
    Amount(u64),
}

/// The schedule of a limit.
#[derive(Debug, PartialEq, Eq)]
pub struct Scheduled {
    timetable: Arc<Timetable>,
    /// One for each condition.
    effects: Box<[Effect]>,
    /// The limit as it is while each condition holds.
    limits: Box<[Arc<Limit>]>,
}

/// How a limit is from a time on.
#[derive(Clone, Copy, Debug)]
pub struct Stretch<'a> {
    /// In milliseconds since the Unix epoch.
    pub from_ms: u64,
    pub limit: &'a Arc<Limit>,
}

/// How a limit follows its schedule around a time.
#[derive(Debug)]
pub struct Outlook<'a> {
    /// How it has been, the present stretch last.
    pub past: Vec<Stretch<'a>>,
    /// How it will be.
    pub later: Vec<Stretch<'a>>,
    /// Until when the present stretch lasts, or at least is known to.
    pub until_ms: u64,
}

impl Scale {
    /// All of it.
    pub const ALL: Self = Self(WHOLE);

    /// So many hundredths of a percent.
    pub const fn of_hundredths(parts: u32) -> Self {
        Self(parts)
    }

    /// In hundredths of a percent.
    pub const fn hundredths(self) -> u32 {
        self.0
    }

    /// So much of `amount`, rounded down.
    pub fn of(self, amount: u64) -> u64 {
        let scaled = u128::from(amount) * u128::from(self.0) / u128::from(WHOLE);
        u64::try_from(scaled).unwrap_or(u64::MAX).min(AMOUNT_MAX)
    }
}

impl fmt::Display for Scale {
    /// As a percentage: `75%`, `150%`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", f64::from(self.0) / 100.0)
    }
}

impl Effect {
    fn of(self, amount: u64) -> u64 {
        match self {
            Self::Scale(scale) => scale.of(amount),
            Self::Amount(amount) => amount.min(AMOUNT_MAX),
        }
    }
}

impl Scheduled {
    /// When which condition holds.
    pub fn timetable(&self) -> &Arc<Timetable> {
        &self.timetable
    }

    /// The limit as it is while each condition holds, in their order.
    pub fn limits(&self) -> &[Arc<Limit>] {
        &self.limits
    }
}

impl Limit {
    /// The same limit on a schedule, with one effect for each condition of it.
    pub fn on_schedule(self, timetable: Arc<Timetable>, effects: Box<[Effect]>) -> Self {
        let amounts = effects.iter().map(|effect| effect.of(self.amount));
        let most = amounts.clone().fold(self.amount, u64::max);
        let algorithm = match &self.algorithm {
            // One width of slots, whatever the amount: that of the largest.
            Algorithm::Sliding(sliding) => {
                Algorithm::Sliding(Sliding::new(sliding.window_ms(), most))
            }
            other => other.clone(),
        };
        let base = Self { algorithm, scheduled: None, ..self };
        let mut limits: Vec<Self> = amounts.map(|amount| base.resized(amount)).collect();
        limits.push(base);
        Self::grace_together(&mut limits);
        let base = limits.pop().expect("the base was pushed last");
        let limits = limits.into_iter().map(Arc::new).collect();
        let scheduled = Scheduled { timetable, effects, limits };
        Self { scheduled: Some(Arc::new(scheduled)), ..base }
    }

    /// The same limit of another amount, on the same counter; its schedule scales that, and names no other.
    pub fn with_amount(&self, amount: u64) -> Self {
        let kept = |effect: &Effect| match effect {
            Effect::Scale(_) => *effect,
            Effect::Amount(_) => Effect::Scale(Scale::ALL),
        };
        self.with_amounts(amount, kept)
    }

    /// The same limit with another amount in place of each that it has.
    pub fn map_amounts(&self, of: impl Fn(u64) -> u64) -> Self {
        let kept = |effect: &Effect| match effect {
            Effect::Scale(_) => *effect,
            Effect::Amount(amount) => Effect::Amount(of(*amount)),
        };
        self.with_amounts(of(self.amount), kept)
    }

    fn with_amounts(&self, amount: u64, effect: impl Fn(&Effect) -> Effect) -> Self {
        let amount = amount.min(AMOUNT_MAX);
        let algorithm = self.algorithm.with_amount(amount);
        let limit = Self { amount, algorithm, ..self.unscheduled() };
        let (thresholds, grace) =
            (limit.thresholds_at(limit.capacity()), limit.grace_at(limit.capacity()));
        let limit = Self { thresholds, grace, ..limit };
        match &self.scheduled {
            None => limit,
            Some(scheduled) => {
                let effects = scheduled.effects.iter().map(effect).collect();
                limit.on_schedule(scheduled.timetable.clone(), effects)
            }
        }
    }

    /// The same limit of another amount, with slots as they are.
    fn resized(&self, amount: u64) -> Self {
        let algorithm = match &self.algorithm {
            Algorithm::Bucket(bucket) => Algorithm::Bucket(bucket.with_amount(amount)),
            other => other.clone(),
        };
        let limit = Self { amount, algorithm, ..self.clone() };
        let (thresholds, grace) =
            (limit.thresholds_at(limit.capacity()), limit.grace_at(limit.capacity()));
        Self { thresholds, grace, ..limit }
    }

    /// The same limit with an edit, which its schedule keeps.
    pub(in crate::limit) fn edited(self, edit: impl FnOnce(Self) -> Self) -> Self {
        let scheduled = self.scheduled.clone();
        let edited = edit(Self { scheduled: None, ..self });
        match scheduled {
            None => edited,
            Some(known) => edited.on_schedule(known.timetable.clone(), known.effects.clone()),
        }
    }

    /// The same limit without a schedule.
    pub fn unscheduled(&self) -> Self {
        Self { scheduled: None, ..self.clone() }
    }

    /// What parts of the capacity are measured by: the capacity; on a schedule, which has several, so much that each part of a
    /// part is exact.
    pub fn reference_capacity(&self) -> u64 {
        if self.scheduled.is_some() { REFERENCE_CAPACITY } else { self.capacity() }
    }

    /// Its schedule, if it has one.
    pub fn scheduled(&self) -> Option<&Scheduled> {
        self.scheduled.as_deref()
    }

    /// The limit as it is at a time: itself, or what a condition that holds makes of it.
    pub fn at(self: &Arc<Self>, now: Timestamp) -> &Arc<Self> {
        match &self.scheduled {
            None => self,
            Some(scheduled) => {
                let holding = scheduled.timetable.holding_now(now);
                holding.map_or(self, |index| &scheduled.limits[index])
            }
        }
    }

    /// How the limit follows its schedule around a time; None without a schedule.
    pub fn outlook(self: &Arc<Self>, now: Timestamp) -> Option<Outlook<'_>> {
        let scheduled = self.scheduled.as_ref()?;
        let timeline = scheduled.timetable.timeline(now);
        let (past, later) = timeline.split(now);
        let stretch = |span: &Span| {
            let limit = span.holding.map_or(self, |index| &scheduled.limits[index]);
            Stretch { from_ms: span.from_ms, limit }
        };
        let until_ms = later.first().map_or(timeline.holds_until_ms(), |next| next.from_ms);
        let later = later.iter().take(LATER_MAX).map(stretch).collect();
        let oldest_ms = now.as_ms().saturating_sub(PAST_MS);
        let ended = |span: &&Span| span.from_ms <= oldest_ms;
        let recent = past.iter().rev().take_while(|span| !ended(span)).count();
        let first = past.len() - (recent + 1).min(past.len()).min(PAST_MAX + 1);
        Some(Outlook { past: past[first..].iter().map(stretch).collect(), later, until_ms })
    }

    /// The slowest at which a bucket pays what it owes, in units a millisecond, whatever holds.
    pub fn slowest_paid_per_ms(&self) -> Option<u64> {
        let Algorithm::Bucket(own) = &self.algorithm else { return None };
        let limits = self.scheduled.iter().flat_map(|scheduled| &scheduled.limits);
        let rates = limits.filter_map(|limit| match &limit.algorithm {
            Algorithm::Bucket(bucket) => Some(bucket.paid_per_ms()),
            _ => None,
        });
        Some(rates.fold(own.paid_per_ms(), u64::min))
    }

    /// When a settled state will have become empty by itself at the latest, whatever the schedule does. See
    /// [`Limit::expiry_ms`].
    pub fn latest_expiry_ms(&self, state: &State) -> Option<u64> {
        let own = self.expiry_ms(state);
        let Some(scheduled) = &self.scheduled else { return own };
        scheduled.limits.iter().fold(own, |latest, limit| latest.max(limit.expiry_ms(state)))
    }

    /// Pays what a bucket owes for the time before the stretch that holds `now`, each time at its rate, and returns the state as
    /// it was if there was anything to pay for.
    pub fn pay_past(self: &Arc<Self>, state: &mut State, now: Timestamp) -> Option<State> {
        let scheduled = self.scheduled.as_ref()?;
        let State::Bucket(debt) = state else { return None };
        if scheduled.timetable.timeline(now).span(now).from_ms <= debt.at_ms() {
            return None;
        }
        let written = state.clone();
        pay(state, &self.outlook(now)?.past);
        Some(written)
    }
}

/// Pays what a bucket owes for the time before the last of some stretches.
pub fn pay(state: &mut State, stretches: &[Stretch<'_>]) {
    let State::Bucket(debt) = state else { return };
    for (stretch, next) in stretches.iter().zip(stretches.iter().skip(1)) {
        if let Algorithm::Bucket(bucket) = &stretch.limit.algorithm
            && debt.at_ms() < next.from_ms
        {
            bucket.pay_until(debt, next.from_ms);
        }
    }
}
