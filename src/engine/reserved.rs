//! What a verdict says of reservations: hits that are held, and hits that were spent by settling them.

use crate::limit::Hits;

use super::reserving::Reserving;
use super::verdict::{ChargeDecision, Code, Verdict};

impl<'v> Verdict<'v> {
    /// The limits of which reservations hold hits, or of which some were settled: how many are held, and how many were spent by
    /// that.
    pub fn reserved(&self) -> impl Iterator<Item = (&ChargeDecision<'v>, u64, u64)> {
        let reserved = self.notices.iter().filter(|one| one.held != 0 || one.settled != 0);
        reserved.filter_map(|one| Some((self.charges().get(one.charge)?, one.held, one.settled)))
    }

    /// Hits that reservations hold of a charge's limit.
    pub fn held_of(&self, index: usize) -> u64 {
        self.notices.iter().find(|notice| notice.charge == index).map_or(0, |notice| notice.held)
    }

    /// Hits of a charge that count as asked of its limit: none of a retry, nor of a reservation until it is settled. Of hits
    /// that come back, those that did.
    pub fn hits_of(&self, index: usize) -> Hits {
        let Some(charge) = self.charges().get(index) else { return Hits::Spend(0) };
        let is_made = !charge.is_over() || charge.decision.counted;
        match charge.reserving {
            _ if charge.is_retry() => Hits::Spend(0),
            Reserving::Holds | Reserving::Extends if is_made => Hits::Spend(0),
            Reserving::Settles if is_made => {
                let notice = self.notices.iter().find(|notice| notice.charge == index);
                Hits::Spend(notice.map_or(0, |notice| notice.settled))
            }
            _ => match charge.hits {
                Hits::GiveBack(_) if self.code() != Code::Ok => charge.hits,
                Hits::GiveBack(_) | Hits::Spend(_) => charge.taken(),
            },
        }
    }
}

impl ChargeDecision<'_> {
    /// Whether it was to hold hits that the limit has, and there are as many reservations as there can be.
    pub fn lacks_place(&self) -> bool {
        let is_refused = self.reserving == Reserving::Holds && self.is_over();
        is_refused
            && matches!(self.hits, Hits::Spend(1..))
            && self.hits.amount() <= self.remaining()
    }
}
