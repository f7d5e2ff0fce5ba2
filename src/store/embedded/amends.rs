//! Puts right in the embedded store what a charge was made in vain for (`amends.rs`). `redis/amends.lua` mirrors this.

use std::mem;

use super::decide::Decider;
use crate::clock::Timestamp;
use crate::limit::{Allowance, Bonus, Hits};
use crate::store::{Amends, Charge, Notice, Once};

impl Charge {
    /// Whether it gives the hits of a mark back.
    pub(super) fn undoes(&self) -> bool {
        matches!((self.once, self.hits), (Some(Once::Undo(_)), Hits::GiveBack(_)))
    }
}

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

    /// The same for a charge of which only its mark tells where the hits came from.
    pub(super) fn put_back_undone(
        &mut self,
        charge: &Charge,
        (allowance, hits): (&mut Allowance, Hits),
    ) -> Hits {
        let Some(Once::Undo(mark)) = charge.once else { return hits };
        let known = self.mark(charge, mark);
        let (at_ms, taken) = known.map_or((0, Box::default()), |known| {
            (known.until_ms.saturating_sub(mark.life_ms.into()), mem::take(&mut known.bonuses))
        });
        let of =
            |bonus: &Bonus| taken.iter().find(|(id, _)| *id == bonus.id).map(|(_, hits)| *hits);
        let bonuses = charge.bonuses.iter().map(|bonus| of(bonus).unwrap_or(0)).collect();
        let at = Timestamp::from_ms(at_ms);
        let amends = Amends { at, bonuses, ..Amends::default() };
        self.put_back(charge, &amends, (allowance, Hits::GiveBack(0)));
        let of_bonuses = taken.iter().fold(0, |sum: u64, (_, hits)| sum.saturating_add(*hits));
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

    /// Has the grace not begun that the earlier charge began, unless a part of that stays and more than the limit is in use. If
    /// more is in use without it, as where the amount was lowered, the next charge that passes begins a grace.
    pub(super) fn take_grace_back(&mut self, index: usize) {
        let charge = &self.batch.charges[index];
        let amends = charge.amends.as_deref().filter(|amends| {
            let on = self.settled(index);
            amends.is_whole || on.used() <= on.limit.capacity()
        });
        let Some(since) = amends.and_then(|amends| amends.grace_since) else { return };
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
