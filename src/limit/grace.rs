//! Grace: more than the limit passes for a while from the first breach on, and then no more until the window ends.
//!
//! When it began is kept beside the state. Where there is no window that ends, it may begin again a window's length after it has
//! ended; of a total, once hits came back until at most the amount less what is over is in use.

use super::allowance::GraceLeft;
use super::{Algorithm, Limit, State};
use crate::clock::Timestamp;

/// The grace of one limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grace {
    percent: u16,
    for_ms: u64,
    /// Hits beyond the capacity.
    over: u64,
    /// They are at least one, at some time of a schedule.
    counts: bool,
}

/// A grace that has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GraceBegun {
    /// The first breach, in milliseconds since the Unix epoch.
    pub since_ms: u64,
    /// When another one may begin; None for when enough hits came back.
    pub again_ms: Option<u64>,
}

impl Grace {
    fn new(percent: u16, for_ms: u64, capacity: u64) -> Self {
        let over = u128::from(capacity) * u128::from(percent) / 100;
        let over = u64::try_from(over).unwrap_or(u64::MAX);
        Self { percent, for_ms, over, counts: over != 0 }
    }

    /// What passes beyond the capacity, in percent of it.
    pub fn percent(&self) -> u16 {
        self.percent
    }

    /// How long, in milliseconds.
    pub fn for_ms(&self) -> u64 {
        self.for_ms
    }

    /// Hits that pass beyond the capacity; none at times of a schedule with a small amount.
    pub fn over(&self) -> u64 {
        self.over
    }

    /// When one that has begun ends, in milliseconds since the Unix epoch.
    pub fn ends_ms(&self, begun: GraceBegun) -> u64 {
        begun.since_ms.saturating_add(self.for_ms)
    }

    /// What is left of it.
    pub fn left(&self, begun: Option<GraceBegun>) -> GraceLeft {
        GraceLeft {
            hits: self.over,
            until_ms: begun.map_or(u64::MAX, |begun| self.ends_ms(begun)),
            again_ms: begun.and_then(|begun| begun.again_ms),
        }
    }
}

impl Limit {
    /// The same limit with a grace of so many percent of its capacity, for so many milliseconds.
    pub fn with_grace(self, percent: u16, for_ms: u64) -> Self {
        self.edited(|limit| {
            let grace = Grace::new(percent, for_ms, limit.capacity());
            Self { grace: Some(Box::new(grace)), ..limit }
        })
    }

    /// The same limit without a grace.
    pub fn without_grace(self) -> Self {
        Self { grace: None, ..self }
    }

    /// Has the limits of one schedule all have a grace if one of them has: a grace that has begun goes on when the amount
    /// changes.
    pub(super) fn grace_together(limits: &mut [Self]) {
        if limits.iter().any(|limit| limit.grace().is_some()) {
            let graces = limits.iter_mut().filter_map(|limit| limit.grace.as_mut());
            graces.for_each(|grace| grace.counts = true);
        }
    }

    /// The grace for another capacity.
    pub(super) fn grace_at(&self, capacity: u64) -> Option<Box<Grace>> {
        let Grace { percent, for_ms, .. } = **self.grace.as_ref()?;
        Some(Box::new(Grace::new(percent, for_ms, capacity)))
    }

    /// Its grace, if it has one of at least a hit, at some time of its schedule.
    pub fn grace(&self) -> Option<&Grace> {
        self.grace.as_deref().filter(|grace| grace.counts)
    }

    /// What passes beyond the capacity by its grace, in percent, also where that is less than a hit.
    pub fn grace_percent(&self) -> Option<u16> {
        self.grace.as_deref().map(Grace::percent)
    }

    /// How long after its end a grace may begin again, in milliseconds; None where the window's end or hits that come back
    /// allow it.
    pub fn grace_pause_ms(&self) -> Option<u64> {
        match self.algorithm() {
            Algorithm::Sliding(sliding) => Some(sliding.window_ms()),
            Algorithm::Bucket(bucket) => Some(bucket.window_ms()),
            Algorithm::Fixed(_) | Algorithm::Calendar(_) | Algorithm::Total => None,
        }
    }

    /// The grace that has begun after a charge, where `begun` had before; `state` is the one after the charge.
    pub fn breach(
        &self,
        begun: Option<GraceBegun>,
        state: &State,
        now: Timestamp,
    ) -> Option<GraceBegun> {
        let grace = self.grace()?;
        let used = self.used(state, now);
        match begun {
            None if self.capacity() < used => {
                let since_ms = now.as_ms();
                let again_ms = match self.grace_pause_ms() {
                    Some(pause_ms) => Some(since_ms + grace.for_ms + pause_ms),
                    None => self.expiry_ms(state),
                };
                Some(GraceBegun { since_ms, again_ms })
            }
            Some(_)
                if *self.algorithm() == Algorithm::Total
                    && used <= self.capacity().saturating_sub(grace.over) =>
            {
                None
            }
            begun => begun,
        }
    }
}
