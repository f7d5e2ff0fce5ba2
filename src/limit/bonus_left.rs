//! What is left of bonuses, now and once those that recur have come anew.

use smallvec::SmallVec;

use super::{AMOUNT_MAX, Bonus, BonusUse};
use crate::clock::Timestamp;

/// A bonus that hasn't ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BonusLeft {
    /// When it ends, or its period does, in milliseconds since the Unix epoch.
    pub until_ms: u64,
    /// Hits that it grants in total, with those that were carried into its period.
    pub amount: u64,
    /// Hits of it that have been spent; more than the amount if that was lowered.
    pub spent: u64,
    /// The period of one that recurs.
    pub period: Option<PeriodLeft>,
}

/// The period of a recurring bonus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeriodLeft {
    pub number: u64,
    /// Hits of the amount that were carried into it.
    pub carried: u64,
    /// Hits that were left of the period before, and are gone.
    pub expired: u64,
    /// When the next periods begin, in milliseconds since the Unix epoch, as far as they are looked at.
    pub renewals: SmallVec<[u64; 1]>,
    /// When the bonus ends.
    pub until_ms: u64,
    /// Until when it is to be kept what is spent.
    pub kept_ms: u64,
    /// Hits that come anew with it.
    pub renewed: u64,
    /// The most that is carried into it.
    pub rollover_max: u64,
}

impl BonusLeft {
    /// `bonus` with so much of it spent.
    pub fn new(bonus: &Bonus, spent: u64) -> Self {
        let (until_ms, amount) = (bonus.until.as_ms(), bonus.amount.min(AMOUNT_MAX));
        Self { until_ms, amount, spent, period: None }
    }

    /// A recurring `bonus` of which that is known.
    pub fn recurring(bonus: &Bonus, known: Option<BonusUse>, now: Timestamp) -> Self {
        let Some(recurs) = &bonus.recurs else { return Self::new(bonus, 0) };
        let (renewed, until_ms) = (bonus.amount.min(AMOUNT_MAX), bonus.until.as_ms());
        let period = recurs.period(now);
        let used = recurs.renewed(renewed, known, period.number);
        Self {
            until_ms: period.end_ms.min(until_ms),
            amount: renewed + used.carried,
            spent: used.spent,
            period: Some(PeriodLeft {
                number: used.period,
                carried: used.carried,
                expired: used.expired,
                renewals: recurs.renewals(renewed, period),
                until_ms,
                kept_ms: recurs.forgotten_ms(renewed, period).min(until_ms),
                renewed,
                rollover_max: recurs.rollover_max().min(AMOUNT_MAX),
            }),
        }
    }

    /// Hits that are left.
    pub fn left(&self) -> u64 {
        self.amount.saturating_sub(self.spent)
    }

    /// The times at which any of the bonuses comes anew, each once, in order.
    pub fn renewals(bonuses: &[Self]) -> SmallVec<[u64; 1]> {
        let periods = bonuses.iter().filter_map(|bonus| bonus.period.as_ref());
        let mut renewals: SmallVec<[u64; 1]> =
            periods.flat_map(|period| period.renewals.iter().copied()).collect();
        renewals.sort_unstable();
        renewals.dedup();
        renewals
    }

    /// The bonuses as they will be from a time on at which one of them comes anew, if nothing is spent, the soonest to end
    /// first. One that has come anew has at least as much in all later periods.
    pub fn at(bonuses: &[Self], at_ms: u64) -> SmallVec<[Self; 1]> {
        let mut later: SmallVec<[Self; 1]> =
            bonuses.iter().filter_map(|bonus| bonus.later(at_ms)).collect();
        later.sort_by_key(|bonus| bonus.until_ms);
        later
    }

    /// The bonuses as they will be at a time, if nothing is spent, the soonest to end first; those that recur come anew after it.
    pub fn resumed(bonuses: &[Self], at_ms: u64) -> SmallVec<[Self; 1]> {
        let resumed = bonuses.iter().filter_map(|bonus| {
            let mut period = bonus.period.clone();
            if let Some(period) = &mut period {
                period.renewals.retain(|renews_ms| at_ms < *renews_ms);
            }
            Some(Self { period, ..bonus.later(at_ms)? })
        });
        let mut resumed: SmallVec<[Self; 1]> = resumed.collect();
        resumed.sort_by_key(|bonus| bonus.until_ms);
        resumed
    }

    fn later(&self, at_ms: u64) -> Option<Self> {
        let (until_ms, amount, spent) = (self.until_ms, self.amount, self.spent);
        let mut later = Self { until_ms, amount, spent, period: None };
        if let Some(period) = &self.period {
            for _ in period.renewals.iter().filter(|renews_ms| **renews_ms <= at_ms) {
                later.amount = period.renewed + later.left().min(period.rollover_max);
                (later.until_ms, later.spent) = (period.until_ms, 0);
            }
        }
        (at_ms < later.until_ms).then_some(later)
    }
}
