//! The hits that a request got of limits that may be taken in part.

use super::reserving::Reserving;
use super::verdict::{ChargeDecision, Code, Verdict};
use crate::limit::Hits;

impl<'v> Verdict<'v> {
    /// The limits that may be taken in part, each with the hits that the request got, which passes.
    pub fn granted(&self) -> impl Iterator<Item = (&ChargeDecision<'v>, u64)> {
        let passes = self.code() == Code::Ok;
        let partial = self.charges().iter().filter(move |charge| charge.is_partial && passes);
        partial.map(|charge| (charge, charge.taken().amount()))
    }

    /// Hits that a charge's limit did not have of those that were asked for, of a request that passes with fewer, or of those that
    /// a settlement has used. What another limit had less of is no lack of this one.
    pub fn missed_of(&self, index: usize) -> u64 {
        let Some(charge) = self.charges().get(index) else { return 0 };
        if let (Reserving::Settles, Hits::Spend(used)) = (charge.reserving, charge.hits) {
            let is_told = self.code() == Code::Ok && !charge.is_retry() && !self.fallback;
            return if is_told { used.saturating_sub(self.hits_of(index).amount()) } else { 0 };
        }
        let gets_part = charge.is_partial && self.code() == Code::Ok;
        match gets_part && !charge.is_over() && !charge.is_retry() {
            true => charge.decision.clipped.saturating_sub(charge.remaining()),
            false => 0,
        }
    }
}

impl ChargeDecision<'_> {
    /// The hits that count of a request that passes, or that come back: no more than the limit had in use.
    pub fn taken(&self) -> Hits {
        let clipped = self.decision.clipped;
        match self.hits {
            Hits::Spend(hits) => Hits::Spend(hits.saturating_sub(clipped)),
            Hits::GiveBack(_) => Hits::GiveBack(self.hits.amount().saturating_sub(clipped)),
        }
    }
}
