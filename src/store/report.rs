//! What the embedded store reports of charges beside their decisions, and keeps beside the states for that: the thresholds that
//! were told, and the graces that have begun. `redis/special.lua` mirrors this file.

use smallvec::SmallVec;

use super::decide::Decider;
use super::{Charge, Notice};
use crate::clock::Timestamp;
use crate::limit::{Allowance, AvailableCapacity, Crossed, Grace, Hits, Limit};

impl Charge {
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
        let state = &record.states[place].state;
        let (crossed, told) = limit.tell((&record.told(tag), used), state, now);
        let expiry_ms = charge.limit.told_expiry_ms(&told, state);
        record.keep_told(tag, told, expiry_ms);
        if !crossed.is_none() {
            self.notices.push(Notice { crossed, ..Notice::of(index) });
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
            let known = self.notices.iter_mut().find(|notice| notice.charge == index);
            match known {
                Some(notice) => (notice.grace_until, notice.grace_left) = (grace_until, grace_left),
                None => {
                    self.notices.push(Notice { grace_until, grace_left, ..Notice::of(index) });
                }
            }
        }
        self.notices.sort_unstable_by_key(|notice| notice.charge);
    }
}

impl Notice {
    /// Nothing of that charge.
    fn of(charge: usize) -> Self {
        Self { charge, crossed: Crossed::default(), grace_until: None, grace_left: 0 }
    }
}
