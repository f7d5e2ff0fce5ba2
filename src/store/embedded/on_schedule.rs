//! Charges whose amount follows a schedule: what they are at a time, and when they will fit.

use std::borrow::Cow;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::clock::Timestamp;
use crate::limit::{
    Allowance, AvailableCapacity, BonusLeft, Fit, Grace, GraceLeft, Limit, Outlook, Settled, pay,
};
use crate::store::batch::{Batch, Charge};

impl Charge {
    /// How much of the capacity of its limit, as it is at a time, is open to it when gauges have these levels.
    pub fn open_at(&self, limit: &Limit, level_of: impl Fn(usize) -> u8) -> u64 {
        let whole = self.part(self.open.hits, limit);
        self.pressed(limit, level_of).fold(whole, u64::min)
    }

    /// How much of it each gauge leaves open that presses the charge.
    pub fn pressed(
        &self,
        limit: &Limit,
        level_of: impl Fn(usize) -> u8,
    ) -> impl Iterator<Item = u64> {
        self.open.pressed.iter().filter_map(move |pressed| {
            let level = usize::from(level_of(pressed.gauge)).min(pressed.hits.len());
            let hits = level.checked_sub(1).and_then(|index| pressed.hits.get(index))?;
            Some(self.part(*hits, limit))
        })
    }

    /// So much of its limit's reference capacity, of the capacity of that limit at a time: in the same proportion, rounded down.
    pub fn part(&self, hits: u64, limit: &Limit) -> u64 {
        let capacity = limit.capacity();
        if self.limit.reference_capacity() <= hits {
            return capacity;
        }
        self.scaled(hits, limit).min(capacity)
    }

    /// As [`Charge::part`] for a point that may be beyond the capacity.
    pub fn scaled(&self, hits: u64, limit: &Limit) -> u64 {
        if self.limit.scheduled().is_none() {
            return hits;
        }
        let whole = u128::from(self.limit.reference_capacity().max(1));
        let scaled = u128::from(hits) * u128::from(limit.capacity()) / whole;
        u64::try_from(scaled).unwrap_or(u64::MAX)
    }

    /// The charge as it is at a time: of that amount, without a schedule.
    pub fn at(&self, now: Timestamp) -> Cow<'_, Self> {
        if self.limit.scheduled().is_none() {
            return Cow::Borrowed(self);
        }
        let limit = self.limit.at(now);
        let mut open = self.open.clone();
        open.hits = self.part(open.hits, limit);
        for hits in open.pressed.iter_mut().flat_map(|pressed| &mut pressed.hits) {
            *hits = self.part(*hits, limit);
        }
        Cow::Owned(Self { limit: Arc::new(limit.unscheduled()), open, ..self.clone() })
    }
}

impl Batch {
    /// The batch as it is at a time, but for its gauges: of those amounts, without schedules.
    pub fn at(&self, now: Timestamp) -> Cow<'_, Self> {
        if self.charges.iter().all(|charge| charge.limit.scheduled().is_none()) {
            return Cow::Borrowed(self);
        }
        let charges = self.charges.iter().map(|charge| charge.at(now).into_owned()).collect();
        Cow::Owned(Self { charges, ..self.clone() })
    }
}

/// When a charge's hits will fit; if its amount never changed, they would as `fit` says, by its `allowance` on a settled state.
/// `pressed_at` tells how much gauges leave open at a time to come. Mirrored by `redis/special.lua`.
pub fn fit_on_schedule(
    (charge, outlook): (&Charge, Outlook<'_>),
    (on, allowance): (&Settled<'_>, &Allowance),
    fit: Fit,
    pressed_at: impl Fn(u64) -> Option<u64>,
) -> Fit {
    let Outlook { past: mut all, later, .. } = outlook;
    let now_ms = on.now.as_ms();
    let fits_before = |fit: Fit, from_ms: u64, end_ms: u64| match fit {
        Fit::Now if from_ms < end_ms => Some(from_ms),
        Fit::AfterMs(ms) if from_ms.saturating_add(ms) < end_ms => Some(from_ms + ms),
        _ => None,
    };
    let mut ends = later.iter().map(|stretch| stretch.from_ms).chain([u64::MAX]);
    let first = ends.next().and_then(|end_ms| fits_before(fit, now_ms, end_ms));
    let mut fitting = later.iter().zip(ends).map(|(stretch, end_ms)| {
        all.push(*stretch);
        let mut state = on.state.clone();
        pay(&mut state, &all);
        let now = Timestamp::from_ms(stretch.from_ms);
        let on = Settled { limit: stretch.limit, state: &state, now, held: on.held };
        let open = charge.part(charge.open.hits, stretch.limit);
        let hits = pressed_at(stretch.from_ms).map_or(open, |pressed| open.min(pressed));
        let available = AvailableCapacity { from_ms: stretch.from_ms, until_ms: u64::MAX, hits };
        let bonuses = BonusLeft::resumed(&allowance.bonuses, stretch.from_ms);
        let over = stretch.limit.grace().map_or(0, Grace::over);
        let grace = allowance.grace.map(|left| GraceLeft { hits: over, ..left });
        let mut later = Allowance {
            available: SmallVec::from_elem(available, 1),
            bonuses,
            grace,
            held: allowance.held.clone(),
            holds: allowance.holds,
        };
        later.add_grace(&on);
        fits_before(later.wait(&on, charge.needs()), stretch.from_ms, end_ms)
    });
    match first.or_else(|| fitting.find_map(|at_ms| at_ms)) {
        Some(at_ms) => Fit::AfterMs(at_ms.saturating_sub(now_ms)),
        None => Fit::Never,
    }
}
