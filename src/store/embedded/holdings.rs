//! Reservations in the embedded store: hits that are held of a limit, and settled, extended or released. `redis/held.lua`
//! mirrors this.

use super::decide::{Decider, Made};
use crate::limit::{Allowance, Held, HeldFrom, Hits, Holdings, Overdraft};
use crate::store::{Charge, HELD_MAX, Once, Reservation, Retry};

/// Estimates of the same hits that lapse in the same of so many parts of their life are kept as one, so that any number of
/// them need little memory.
const ESTIMATE_SLOTS: u64 = 60;

/// What a charge spends.
pub(super) struct Spending {
    pub hits: Hits,
    /// Hits that passed and don't count.
    pub clipped: u64,
    pub overdraft: Overdraft,
}

impl Charge {
    /// Whether it is about what is spent, and not about what is held.
    pub(super) fn spends_hits(&self) -> bool {
        let step = self.reservation.as_deref();
        step.is_none_or(|step| {
            step.is_of_estimate() || matches!(step, Reservation::Count | Reservation::Settle { .. })
        })
    }

    /// What another charge of its limit does with reservations that only looks.
    pub fn counting(&self) -> Option<Box<Reservation>> {
        self.reservation.as_ref().map(|_| Box::new(Reservation::Count))
    }

    /// What it does with reservations. Nothing is held of no hits, and what is extended or released asks for none.
    pub(in crate::store) fn step(&self) -> Option<Reservation> {
        let step = *self.reservation.as_deref()?;
        let makes = match step {
            _ if matches!(self.once, Some(Once::Look(_))) => false,
            Reservation::Hold { .. } => matches!(self.hits, Hits::Spend(1..)),
            Reservation::Extend { .. } => self.hits.amount() == 0,
            Reservation::Release { .. } | Reservation::ReleaseEstimates { .. } => {
                matches!(self.hits, Hits::GiveBack(_))
            }
            Reservation::Estimate { hits, .. } => 0 < hits && matches!(self.hits, Hits::Spend(_)),
            Reservation::SettleEstimate { .. } => matches!(self.hits, Hits::Spend(_)),
            Reservation::Count | Reservation::Settle { .. } => true,
        };
        Some(if makes { step } else { Reservation::Count })
    }

    /// Whether it settles a reservation: then the mark of its idempotency key tells hits of none from others too.
    pub(in crate::store) fn settles(&self) -> bool {
        matches!(self.step(), Some(Reservation::Settle { .. }))
    }

    /// Whether it may do something although it asks for no hits.
    pub(super) fn acts_without_hits(&self) -> bool {
        matches!(self.step(), Some(Reservation::Settle { .. } | Reservation::Extend { .. }))
            || self.only_estimates()
    }

    /// Whether it makes, settles or releases estimates, and nothing besides.
    pub(in crate::store) fn only_estimates(&self) -> bool {
        self.hits.amount() == 0 && self.step().is_some_and(Reservation::is_of_estimate)
    }
}

impl Decider<'_> {
    /// What reservations hold of a charge's limit; nothing where they don't count.
    pub(super) fn holdings(&self, charge: &Charge) -> &Holdings {
        match charge.reservation {
            Some(_) => self.records[charge.key_index].holdings(charge.limit.tag()),
            None => Holdings::NONE,
        }
    }

    /// What is held now and later, but for what a charge settles.
    pub(super) fn held(&self, charge: &Charge) -> Vec<HeldFrom> {
        let holdings = self.holdings(charge);
        if holdings.is_empty() {
            return Vec::new();
        }
        match charge.step() {
            Some(Reservation::SettleEstimate { hits }) => {
                let mut others = holdings.clone();
                others.end_oldest_estimates(hits);
                others.steps(None).collect()
            }
            Some(Reservation::Settle { id }) => holdings.steps(Some(id)).collect(),
            _ => holdings.steps(None).collect(),
        }
    }

    /// What is held under the id that a charge names.
    fn own(&self, charge: &Charge) -> Option<Held> {
        self.holdings(charge).find(charge.step()?.id()?)
    }

    /// Whether a charge was made before, of which its mark says `made`. An id is used once: of a reservation that has ended,
    /// only the mark is left, and what is held without a mark is that of an older one.
    pub(super) fn made_of_reservation(&self, charge: &Charge, made: Made) -> Made {
        let is_held = self.own(charge).is_some();
        match (charge.step(), made) {
            (Some(Reservation::Hold { .. }), Made::Retried(retry) | Made::Refused(retry))
                if retry.is_free() && !is_held =>
            {
                Made::Retried(Retry::Conflict)
            }
            (Some(Reservation::Hold { .. }), Made::No) if is_held => Made::Retried(Retry::Conflict),
            (Some(Reservation::Extend { .. }), Made::No) if !is_held => {
                Made::Retried(Retry::Conflict)
            }
            (_, made) => made,
        }
    }

    /// Whether a charge fits because of its reservation, whatever its limit has left: what was held has been used.
    pub(super) fn fits_by_reservation(&self, charge: &Charge) -> bool {
        match charge.step() {
            Some(Reservation::Settle { .. }) => self.own(charge).is_some(),
            Some(Reservation::Extend { .. } | Reservation::Release { .. }) => true,
            Some(Reservation::SettleEstimate { .. }) => !self.holdings(charge).is_empty(),
            Some(
                Reservation::Count
                | Reservation::Hold { .. }
                | Reservation::Estimate { .. }
                | Reservation::ReleaseEstimates { .. },
            )
            | None => false,
        }
    }

    /// Leaves out of what is held now and later the time until there is a place for one more reservation; says whether
    /// there is none now.
    pub(super) fn wait_for_place(&self, charge: &Charge, allowance: &mut Allowance) -> bool {
        let step = charge.step();
        let holds = matches!(step, Some(Reservation::Hold { .. } | Reservation::Estimate { .. }));
        let is_full = holds && HELD_MAX <= self.holdings(charge).len();
        if is_full {
            allowance.held.remove(0);
        }
        is_full
    }

    /// Does what a charge of these hits does with reservations. What is to be spent; None if nothing is.
    pub(super) fn reserve(
        &mut self,
        index: usize,
        hits: Hits,
        allowance: &Allowance,
    ) -> Option<Spending> {
        let charge = &self.batch.charges[index];
        let (clipped, overdraft) = (0, charge.overdraft());
        let asked = Spending { hits, clipped, overdraft };
        let Some(step) = charge.step() else { return Some(asked) };
        if step.is_of_estimate() {
            self.estimate(index, step);
            return Some(asked);
        }
        let Some(id) = step.id() else { return Some(asked) };
        let until_ms = self.now.as_ms() + u64::from(step.life_ms());
        let own = self.own(charge).map(|own| (own, self.settlement(index, own, allowance)));
        let holdings = self.records[charge.key_index].holdings_mut(charge.limit.tag());
        holdings.remove(id);
        match (step, own) {
            (Reservation::Hold { .. }, _) => {
                holdings.add(Held { id, hits: hits.amount(), until_ms });
                None
            }
            (Reservation::Extend { .. }, Some((own, _))) => {
                holdings.add(Held { until_ms: own.until_ms.max(until_ms), ..own });
                None
            }
            (Reservation::Settle { .. }, own) => {
                // Hits can't come back of what is not held.
                let spends = matches!(hits, Hits::Spend(_));
                let spending = own.map(|(_, own)| own).or(spends.then_some(asked));
                spending.filter(|spending| spending.hits.amount() != 0)
            }
            _ => None,
        }
    }

    /// Makes an estimate, or ends some. `begin_estimate`, `end_oldest` and `end_youngest` in Lua mirror this.
    fn estimate(&mut self, index: usize, step: Reservation) {
        let charge = &self.batch.charges[index];
        let now_ms = self.now.as_ms();
        let holdings = self.records[charge.key_index].holdings_mut(charge.limit.tag());
        match step {
            Reservation::Estimate { hits, each, life_ms } => {
                let life_ms = u64::from(life_ms);
                let slot_ms = (life_ms / ESTIMATE_SLOTS).max(1);
                let until_ms = (now_ms + life_ms).div_ceil(slot_ms) * slot_ms;
                holdings.add_estimates((hits, each), until_ms);
            }
            Reservation::SettleEstimate { hits } => holdings.end_oldest_estimates(hits),
            Reservation::ReleaseEstimates { hits, count } => {
                holdings.end_youngest_estimates(hits, count);
            }
            _ => {}
        }
    }

    /// What is spent of a reservation that holds hits: more than those only as the overdraft says.
    fn settlement(&self, index: usize, own: Held, allowance: &Allowance) -> Spending {
        let charge = &self.batch.charges[index];
        let used = match charge.hits {
            Hits::Spend(_) => charge.hits.amount(),
            Hits::GiveBack(_) => own.hits.saturating_sub(charge.hits.amount()),
        };
        let most = match charge.limit.overdraft() {
            Overdraft::Allow | Overdraft::Owed => used,
            Overdraft::None | Overdraft::Clip => {
                own.hits.max(allowance.remaining(&self.settled(index)))
            }
        };
        let spent = used.min(most);
        let (hits, overdraft) = (Hits::Spend(spent), Overdraft::Allow);
        Spending { hits, clipped: used - spent, overdraft }
    }
}
