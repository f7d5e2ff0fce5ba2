//! What the store reports of a verdict beside its decisions: thresholds that were crossed, and graces.

use smallvec::SmallVec;

use super::verdict::{ChargeDecision, Verdict};
use crate::clock::Timestamp;
use crate::store::{INLINE_CAP, Notice};

impl<'v> Verdict<'v> {
    /// The thresholds that the request has crossed, in percent, the lowest first. None of them was reported before in
    /// this window.
    pub fn crossed(
        &self,
    ) -> impl Iterator<Item = (&ChargeDecision<'v>, SmallVec<[u16; INLINE_CAP]>)> {
        let crossing = self.notices.iter().filter(|notice| !notice.crossed.is_none());
        crossing.filter_map(|notice| {
            let charge = self.charges().get(notice.charge)?;
            Some((charge, charge.limit.limit.thresholds()?.crossed(notice.crossed).collect()))
        })
    }

    /// The limits that are exceeded by a grace, and the end of each grace.
    pub fn graces(&self) -> impl Iterator<Item = (&ChargeDecision<'v>, Timestamp)> {
        let notices = self.notices.iter();
        notices.filter_map(|notice| Some((self.charges().get(notice.charge)?, notice.grace_until?)))
    }

    /// The store's report on a charge, beside its decision.
    pub(super) fn notice(&self, charge: usize) -> Option<&Notice> {
        self.notices.iter().find(|notice| notice.charge == charge)
    }
}
