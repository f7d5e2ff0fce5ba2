//! How many hits come back of charges that give hits back, in the embedded store: as many as their limit has in use.
//! `redis/decide.lua` mirrors this.

use super::decide::Decider;
use crate::limit::{Allowance, Hits};
use crate::store::{Charge, Decision};

impl Charge {
    /// The hits that don't come back of a charge that has not been made: all of them.
    pub(super) fn unmade_back(&self) -> u64 {
        if self.comes_back() { self.hits.amount() } else { 0 }
    }
}

impl Decider<'_> {
    /// Tells what does not come back of a plain charge that is about to be made.
    pub(super) fn tell_plain_back(&self, index: usize, decision: &mut Decision) {
        if let Hits::GiveBack(_) = self.batch.charges[index].hits {
            decision.clipped -= decision.clipped.min(self.settled(index).used());
        }
    }

    /// The hits in use of a limit and of the bonuses on it.
    pub(super) fn used_in_all(&self, index: usize, allowance: &Allowance) -> u64 {
        let of_bonuses = allowance.bonuses.iter().map(|bonus| bonus.spent).sum();
        self.settled(index).used().saturating_add(of_bonuses)
    }

    /// Tells what did not come back of hits that come back, of which so many were in use.
    pub(super) fn tell_given_back(
        &self,
        index: usize,
        (before, allowance): (u64, &Allowance),
        decision: &mut Decision,
    ) {
        let charge = &self.batch.charges[index];
        if charge.comes_back() {
            let back = before.saturating_sub(self.used_in_all(index, allowance));
            decision.clipped = charge.hits.amount().saturating_sub(back);
        }
    }
}
