//! Puts right in the embedded store what a charge was made in vain for (`amends.rs`). `redis/amends.lua` mirrors this.

use super::decide::Decider;
use super::{Amends, Charge, Notice};
use crate::limit::{Allowance, Hits};

impl Decider<'_> {
    /// Puts hits back into the bonuses that they came from; returns those that come back to the limit itself.
    pub(super) fn put_back(
        &self,
        charge: &Charge,
        amends: &Amends,
        (allowance, hits): (&mut Allowance, Hits),
    ) -> Hits {
        let live = charge.bonuses.iter().zip(&amends.bonuses);
        let live = live.filter(|(bonus, _)| self.now < bonus.until);
        for (left, (bonus, hits)) in allowance.bonuses.iter_mut().zip(live) {
            let start_ms = bonus.recurs.as_ref().map(|recurs| recurs.period(self.now).start_ms);
            // What was spent in an earlier period is gone.
            if start_ms.is_none_or(|start_ms| start_ms <= amends.at.as_ms()) {
                left.spent = left.spent.saturating_sub(*hits);
            }
        }
        let of_bonuses = amends.bonuses.iter().fold(0, |sum: u64, hits| sum.saturating_add(*hits));
        Hits::GiveBack(hits.amount().saturating_sub(of_bonuses))
    }

    /// Takes back what the earlier charge has reported.
    pub(super) fn take_reports_back(&mut self, charge: &Charge) {
        let Some(amends) = charge.amends.as_deref().filter(|amends| !amends.crossed.is_empty())
        else {
            return;
        };
        let tag = charge.limit.tag();
        let record = &mut self.records[charge.key_index];
        let mut reported = record.reported(tag);
        reported.retain(|known| !amends.crossed.contains(&known.percent));
        let expiry_ms = record.reported_expiry_ms(tag);
        record.keep_reported(tag, reported, expiry_ms);
    }

    /// Has the grace not begun that the earlier charge began, if no more than the limit is in use.
    pub(super) fn take_grace_back(&mut self, index: usize) {
        let charge = &self.batch.charges[index];
        let since = charge.amends.as_deref().and_then(|amends| amends.grace_since);
        let Some(since) = since.filter(|_| {
            let on = self.settled(index);
            on.used() <= on.limit.capacity()
        }) else {
            return;
        };
        let record = &mut self.records[charge.key_index];
        let tag = charge.limit.tag();
        if record.grace(tag).is_some_and(|begun| begun.since_ms == since.as_ms()) {
            record.keep_grace(tag, None);
        }
    }

    /// Reports the thresholds that are crossed still.
    pub(super) fn report_again(&mut self, index: usize) {
        let charge = &self.batch.charges[index];
        let (Some(amends), Some(_)) = (&charge.amends, charge.thresholds()) else { return };
        let (limit, place) = (self.limit(index), self.places[index]);
        let record = &mut self.records[charge.key_index];
        let state = &record.states[place].state;
        let mut reported = record.reported(limit.tag());
        let crossed = limit.tell_again((&mut reported, &amends.crossed), state, self.now);
        if !crossed.is_none() {
            let expiry_ms = charge.limit.reported_expiry_ms(&reported, state);
            record.keep_reported(limit.tag(), reported, expiry_ms);
            Notice::of_charge(&mut self.notices, index).crossed = crossed;
        }
    }
}
