//! Charges of which nothing is special, but for how much of their limit is open, its schedule and thresholds, and an idempotency
//! key: most of them. They take a short way while they fit and are not retried.

use super::decide::{Decider, Made, Way};
use crate::limit::{Fit, Hits, Standing};
use crate::store::Decision;

impl Decider<'_> {
    /// How a charge is decided, once the gauges are read.
    pub(super) fn way(&self, index: usize, made: Made) -> Way {
        let charge = &self.batch.charges[index];
        if made != Made::No || !charge.is_nearly_simple() {
            return Way::Special;
        }
        if charge.is_plain() {
            return Way::Plain;
        }
        match charge.hits {
            Hits::Spend(1..) => {
                Way::Open(charge.open_at(self.limit(index), |gauge| self.levels[gauge]))
            }
            _ => Way::Special,
        }
    }

    /// Whether the limit of a charge has the hits; None if there is more to find out.
    pub(super) fn simple_fit(&self, index: usize, way: Way) -> Option<Fit> {
        let (limit, hits) = (self.limit(index), self.batch.charges[index].hits);
        match way {
            Way::Plain => Some(limit.fit(self.state(index), hits, self.now)),
            Way::Open(open) => {
                let left = open.saturating_sub(limit.used(self.state(index), self.now));
                (hits.amount() <= left).then_some(Fit::Now)
            }
            Way::Special => None,
        }
    }

    /// Makes such a charge, and reports the thresholds that it crosses.
    pub(super) fn spend_simple(&mut self, index: usize, decision: &mut Decision) {
        let charge = &self.batch.charges[index];
        self.tell_plain_back(index, decision);
        if charge.thresholds().is_none() {
            self.spend_base(index, charge.hits);
            return;
        }
        let used = self.settled(index).used();
        self.spend_base(index, charge.hits);
        self.report_charge(index, used);
    }

    /// Reports how the limits of these charges stand after all charges, by debts as they are paid now.
    pub(super) fn report_simple(&self, decisions: &mut [Decision]) {
        for (index, (way, decision)) in self.ways.iter().zip(decisions).enumerate() {
            let (limit, state) = (self.limit(index), self.state(index));
            match *way {
                Way::Plain => decision.standing = limit.standing(state, self.now),
                Way::Open(open) => {
                    let remaining = open.saturating_sub(limit.used(state, self.now));
                    decision.standing = Standing { remaining, ..limit.standing(state, self.now) };
                }
                Way::Special => {}
            }
        }
    }
}
