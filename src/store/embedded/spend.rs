//! How the embedded store makes charges, once all of a batch are decided.

use super::decide::{Decider, Made, Way};
use crate::limit::{Fit, Hits, Overdraft, Refund};
use crate::store::{Decision, Notice, Once, Reservation};

impl Decider<'_> {
    /// Makes a debit although the request is refused, and tells how the limit stands then. A limit with an overdraft has to
    /// have the hits; without one it must not be overdrawn already. What did not fit is refused, even where the same request
    /// has given back enough for the next one.
    pub(super) fn count(&mut self, index: usize, decision: &mut Decision) {
        let charge = &self.batch.charges[index];
        let fits = decision.fit == Fit::Now;
        let on = self.settled(index);
        let may_overdraw =
            on.limit.overdraft() == Overdraft::None && on.used() <= on.limit.capacity();
        // What was held has fitted.
        let counts = charge.is_debit() || charge.is_booked();
        let makes = counts && (fits || may_overdraw && !charge.settles());
        if !makes || self.made(charge) != Made::No {
            return;
        }
        self.spend(index, decision);
        decision.counted = true;
        if !fits {
            if let Some(Once::Mark(mark)) = charge.once
                && let Some(known) = self.mark(charge, mark)
            {
                known.is_refused = true;
            }
            let made = self.made(charge);
            let mut allowance = self.allowance(charge);
            decision.fit = match self.fit(index, made, &mut allowance) {
                Fit::Now | Fit::AfterMs(0) => Fit::AfterMs(1),
                later => later,
            };
        }
    }

    /// Makes a charge, and tells how its limit stands then.
    pub(super) fn spend(&mut self, index: usize, decision: &mut Decision) {
        let charge = &self.batch.charges[index];
        let is_empty = charge.hits.amount() == 0 && !charge.acts_without_hits();
        let is_noted = match charge.once {
            None => false,
            // One that finds the count right is a correction, too.
            Some(Once::Correction { .. }) => true,
            Some(Once::Token(_)) => !is_empty,
            Some(_) => !is_empty && !charge.only_estimates(),
        };
        if is_noted {
            let made = self.made(charge);
            self.note(charge, made);
            if made != Made::No {
                self.tell_granted(charge, decision);
                return;
            }
        }
        if is_empty {
            self.report_again(index);
            return;
        }
        if self.ways[index] != Way::Special {
            self.spend_simple(index, decision);
            return;
        }
        self.spend_special(index, decision);
        self.remove_undone(charge);
    }

    /// Makes a charge that is not plain and was not made before.
    fn spend_special(&mut self, index: usize, decision: &mut Decision) {
        let charge = &self.batch.charges[index];
        let (limit, now) = (self.limit(index), self.now);
        let mut allowance = self.allowance(charge);
        let (hits, before) = (self.granted(index, &allowance), allowance.bonuses.clone());
        let used_before = self.used_in_all(index, &allowance);
        let Some(spending) = self.reserve(index, hits, &allowance) else {
            let allowance = self.allowance(charge);
            decision.standing = self.standing(index, &allowance);
            return;
        };
        if charge.step().is_some_and(Reservation::is_of_estimate) {
            allowance.held = self.holdings(charge).steps(None).collect();
        }
        let (base, clipped) = match (charge.amends.as_deref(), charge.alone()) {
            (Some(amends), _) => {
                (self.put_back(charge, amends, (&mut allowance, spending.hits)), 0)
            }
            (None, Some(alone)) => {
                (self.take_alone((charge, alone), &mut allowance, spending.hits), 0)
            }
            (None, None) if charge.undoes() => {
                (self.put_back_undone(charge, (&mut allowance, spending.hits)), 0)
            }
            (None, None) => {
                allowance.divide(&self.settled(index), spending.hits, spending.overdraft)
            }
        };
        if !charge.comes_back() {
            decision.clipped = spending.clipped + clipped;
        }
        let settled = spending.hits.amount() - clipped;
        if charge.settles() && settled != 0 {
            Notice::of_charge(&mut self.notices, index).settled = settled;
        }
        if charge.is_partial() {
            self.keep_granted(charge, hits, decision);
        }
        self.keep_bonuses(index, &before, &allowance);
        self.keep_taken(charge, &before, &allowance);
        if let Some(until) = charge.until {
            let entry = self.entry(index);
            let refund = Refund { hits: base.amount(), until };
            limit.take_back(&mut entry.state, refund, now);
            entry.expiry_ms = charge.limit.latest_expiry_ms(&entry.state);
            self.take_reports_back(charge);
            self.take_grace_back(index);
            self.tell_given_back(index, (used_before, &allowance), decision);
            decision.standing = self.standing(index, &allowance);
            return;
        }
        let used = self.settled(index).used();
        self.spend_base(index, base);
        self.tell_given_back(index, (used_before, &allowance), decision);
        self.report_charge(index, used);
        self.take_ahead(index, decision);
        decision.standing = self.standing(index, &allowance);
    }

    /// Takes hits ahead, for a lease.
    fn take_ahead(&mut self, index: usize, decision: &mut Decision) {
        let charge = &self.batch.charges[index];
        let (limit, now) = (self.limit(index), self.now);
        let takes = charge.ahead != 0
            && decision.clipped == 0
            && !charge.is_partial()
            && !charge.is_debit();
        if takes && matches!(charge.hits, Hits::Spend(_)) {
            decision.ahead = charge.ahead.min(limit.lends(self.state(index), now));
            let entry = self.entry(index);
            limit.charge_ahead(&mut entry.state, decision.ahead, now);
            entry.expiry_ms = charge.limit.latest_expiry_ms(&entry.state);
        }
    }

    pub(super) fn spend_base(&mut self, index: usize, hits: Hits) {
        let (limit, now) = (self.limit(index), self.now);
        let whole = &self.batch.charges[index].limit;
        if hits.amount() != 0 {
            let entry = self.entry(index);
            limit.charge(&mut entry.state, hits, now);
            entry.expiry_ms = whole.latest_expiry_ms(&entry.state);
        }
    }
}
