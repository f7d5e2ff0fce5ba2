//! Charges that are made in part, in the embedded store: a request gets as many hits as the limit has that has least, and all
//! limits of one part take so many. `redis/decide.lua` mirrors this.

use super::decide::{Decider, Made};
use crate::limit::{Allowance, Hits, Overdraft};
use crate::policy::{Mode, Refused};
use crate::store::{Charge, Decision, Once, Reservation, Retry};

/// Parts of one batch.
pub const PARTS_MAX: u8 = 31;

impl Charge {
    /// Whether fewer hits are taken if the limit does not have all. Never of a debit or a reservation, and never with an overdraft.
    pub fn is_partial(&self) -> bool {
        let counts = |step: &Reservation| *step == Reservation::Count;
        let is_reserved = self.reservation.as_deref().is_some_and(|step| !counts(step));
        self.part != 0
            && !is_reserved
            && matches!(self.hits, Hits::Spend(1..))
            && self.refused == Refused::Free
            && self.limit.overdraft() == Overdraft::None
    }

    /// The hits without which it does not pass.
    pub fn least(&self) -> Hits {
        if self.is_partial() { Hits::Spend(1) } else { self.hits }
    }

    /// The same with those that it holds as an estimate.
    pub fn needs(&self) -> Hits {
        match self.step().map_or(0, Reservation::estimated) {
            0 => self.least(),
            estimated => Hits::Spend(self.hits.amount().saturating_add(estimated)),
        }
    }
}

impl Decider<'_> {
    /// Finds how many hits each part of a request gets that passes. An earlier attempt at the request got what it got.
    pub(super) fn find_grants(&mut self, decisions: &[Decision]) {
        if !self.batch.charges.iter().any(Charge::is_partial) {
            return;
        }
        let mut grants = vec![u64::MAX; usize::from(PARTS_MAX) + 1];
        for (index, charge) in self.batch.charges.iter().enumerate() {
            if charge.is_partial() && charge.mode == Mode::Enforce {
                let has = match decisions[index].retry {
                    Some(Retry::Free { .. }) => self.granted_before(charge),
                    // A sidecar's own charge that it sends again.
                    None if self.made(charge) == Made::Yes => continue,
                    _ => self.has(index),
                };
                let grant = &mut grants[usize::from(charge.part.min(PARTS_MAX))];
                *grant = has.min(*grant);
            }
        }
        self.grants = grants;
    }

    /// The hits that a charge takes.
    pub(super) fn granted(&self, index: usize, allowance: &Allowance) -> Hits {
        let charge = &self.batch.charges[index];
        if !charge.is_partial() {
            return charge.hits;
        }
        let left = allowance.left(&self.settled(index));
        Hits::Spend(charge.hits.amount().min(left).min(self.grant(charge)))
    }

    /// Notes what a charge got, for retries of its request, and tells what it did not get.
    pub(super) fn keep_granted(&mut self, charge: &Charge, hits: Hits, decision: &mut Decision) {
        decision.clipped = charge.hits.amount() - hits.amount();
        if let Some(Once::Mark(mark)) = charge.once
            && let Some(known) = self.mark(charge, mark)
        {
            known.granted = hits.amount();
        }
    }

    /// Tells what a charge did not get that an earlier attempt has made.
    pub(super) fn tell_granted(&mut self, charge: &Charge, decision: &mut Decision) {
        if charge.is_partial() && decision.retry.is_some_and(Retry::is_free) {
            let granted = self.granted_before(charge).min(self.grant(charge));
            decision.clipped = charge.hits.amount().saturating_sub(granted);
        }
    }

    /// How many hits of a charge its limit has.
    fn has(&mut self, index: usize) -> u64 {
        let charge = &self.batch.charges[index];
        let allowance = self.allowance(charge);
        charge.hits.amount().min(allowance.left(&self.settled(index)))
    }

    fn grant(&self, charge: &Charge) -> u64 {
        self.grants.get(usize::from(charge.part)).copied().unwrap_or(u64::MAX)
    }

    /// The hits that an earlier attempt got.
    fn granted_before(&mut self, charge: &Charge) -> u64 {
        let known = match charge.once {
            Some(Once::Mark(mark)) => self.mark(charge, mark).map(|known| known.granted),
            _ => None,
        };
        known.unwrap_or(charge.hits.amount())
    }
}
