//! What the embedded store reports of charges beside their decisions, and keeps beside the states for that: the thresholds that
//! were told, the graces that have begun, and what reservations hold. `redis/special.lua` mirrors this file.

use smallvec::SmallVec;

use super::decide::Decider;
use crate::clock::Timestamp;
use crate::limit::{Allowance, AvailableCapacity, Grace, Hits, Limit, Overdraft, Thresholds};
use crate::store::{Charge, Notice};

impl Charge {
    /// The thresholds that it may cross. None for a debt of an outage, which nobody waits for: the next charge crosses them.
    /// None for one that only holds hits: they are spent when they are settled.
    pub fn thresholds(&self) -> Option<&Thresholds> {
        let is_back = self.until.is_some();
        self.limit.thresholds().filter(|_| !is_back && !self.is_debt() && self.spends_hits())
    }

    /// The grace of its limit. None for a debt of an outage, with an overdraft, and for one that only holds hits.
    pub fn grace(&self) -> Option<&Grace> {
        let has_overdraft = self.limit.overdraft() != Overdraft::None;
        self.limit.grace().filter(|_| !self.is_debt() && !has_overdraft && self.spends_hits())
    }

    /// Whether nobody waits for its answer: it brings what is owed, or what was spent in vain.
    fn is_debt(&self) -> bool {
        let is_back = self.until.is_some() && self.amends.is_none();
        self.limit.overdraft() == Overdraft::Owed || is_back
    }

    /// The grace of a charge whose limit is `limit` at the time.
    pub fn grace_of<'l>(&self, limit: &'l Limit) -> Option<&'l Grace> {
        self.grace().and_then(|_| limit.grace())
    }
}

impl Decider<'_> {
    /// Reports the thresholds that a charge has crossed, where `used` was in use before, and keeps the grace that it has begun.
    pub(super) fn report_charge(&mut self, index: usize, used: u64) {
        let (charge, now) = (&self.batch.charges[index], self.now);
        let (limit, place) = (self.limit(index), self.places[index]);
        let record = &mut self.records[charge.key_index];
        let tag = limit.tag();
        if charge.grace().is_some() {
            let begun = limit.breach(record.grace(tag), &record.states[place].state, now);
            record.keep_grace(tag, begun);
        }
        if charge.thresholds().is_none() {
            return;
        }
        let (state, before) = (&record.states[place].state, record.reported(tag));
        let (crossed, reported) = limit.tell((&before, used), state, now);
        let expiry_ms = charge.limit.reported_expiry_ms(&reported, state);
        if reported != before || expiry_ms != record.reported_expiry_ms(tag) {
            record.keep_reported(tag, reported, expiry_ms);
        }
        if !crossed.is_none() {
            Notice::of_charge(&mut self.notices, index).crossed = crossed;
        }
    }

    /// Reports what reservations hold of limits, for charges that count it.
    pub(super) fn report_held(&mut self) {
        for (index, charge) in self.batch.charges.iter().enumerate() {
            let held = self.holdings(charge).hits();
            if held != 0 {
                Notice::of_charge(&mut self.notices, index).held = held;
            }
        }
    }

    /// Reports the graces by which more than a limit is in use, and what a grace would let pass where nothing is asked for.
    pub(super) fn report_graces(&mut self) {
        for index in 0..self.batch.charges.len() {
            let charge = &self.batch.charges[index];
            let Some(grace) = charge.grace_of(self.limit(index)) else { continue };
            let on = self.settled(index);
            let record = &self.records[charge.key_index];
            let left = grace.left(record.grace(on.limit.tag()));
            let is_over = on.limit.capacity() < on.used();
            let is_begun = is_over && self.now.as_ms() < left.until_ms && left.until_ms != u64::MAX;
            let grace_until = is_begun.then(|| Timestamp::from_ms(left.until_ms));
            let mut grace_left = 0;
            if is_begun || matches!(charge.hits, Hits::Spend(0) | Hits::GiveBack(_)) {
                let hits = charge.open_at(on.limit, |gauge| self.levels[gauge]);
                let (from_ms, until_ms) = (self.now.as_ms(), u64::MAX);
                let open = AvailableCapacity { from_ms, until_ms, hits };
                let available = SmallVec::from_elem(open, 1);
                let allowance = Allowance { available, grace: Some(left), ..Allowance::default() };
                grace_left = allowance.grace_left(&on);
            }
            if grace_until.is_none() && grace_left == 0 {
                continue;
            }
            let notice = Notice::of_charge(&mut self.notices, index);
            (notice.grace_until, notice.grace_left) = (grace_until, grace_left);
        }
        self.notices.sort_unstable_by_key(|notice| notice.charge);
    }
}
