//! Charges of which nothing is special, but for how much of their limit is open: most of them. They take a short way.

use super::decide::{Decider, Way};
use crate::limit::{Fit, Hits, Standing};
use crate::store::Decision;

impl Decider<'_> {
    /// How a charge is decided, once the gauges are read.
    pub(super) fn way(&self, index: usize) -> Way {
        let charge = &self.batch.charges[index];
        if !charge.is_simple() {
            return Way::Special;
        }
        let limit = self.limit(index);
        if charge.open.pressed.is_empty() && limit.capacity() <= charge.open.hits {
            return Way::Plain;
        }
        match charge.hits {
            Hits::Spend(1..) => Way::Open(charge.open_at(limit, |gauge| self.levels[gauge])),
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

    /// Reports how the limits of these charges stand in the end.
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
