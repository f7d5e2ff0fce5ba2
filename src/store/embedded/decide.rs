//! The decision of the embedded store on a batch, once it holds the records.
//!
//! All states are brought to the present, then the gauges read them, then every limit is asked; only when
//! the request passes is anything spent, but for debits that count all the same. Gauges keep the level that they have
//! risen or fallen to even when it is refused. `redis/decide.lua` and `redis/special.lua` mirror this file.

use std::mem;
use std::sync::Arc;

use smallvec::SmallVec;

use super::on_schedule::fit_on_schedule;
use super::record::{Entry, Record};
use crate::clock::Timestamp;
use crate::limit::{Allowance, AvailableCapacity, Fit, Hits, Limit, Settled, Standing, State};
use crate::policy::Refused;
use crate::store::batch::lacks_debits_only;
use crate::store::{
    Batch, Charge, Decision, GroupFit, INLINE_CAP, Notice, Outcome, Reservation, Retry, Tally,
};

/// Decides a batch on its records, which end up as the outcome says, without empty or expired states.
pub fn decide(batch: &Batch, records: &mut [Record], at: Timestamp) -> Outcome {
    let mut decider = Decider::new(batch, records, at);
    decider.read_gauges();
    let mut decisions = Vec::with_capacity(batch.charges.len());
    for index in 0..batch.charges.len() {
        decisions.push(decider.ask(index));
    }

    let mut tally = Tally::default();
    let mut first = 0;
    for charges in batch.groups() {
        let group = &decisions[first..first + charges.len()];
        tally.count(charges[0].mode, GroupFit::of(group));
        first += charges.len();
    }
    let admitted = tally.admitted();
    let counts = admitted || batch.counts_refused(&decisions);
    if admitted {
        decider.find_grants(&decisions);
    }
    first = 0;
    for charges in batch.groups() {
        let group = first..first + charges.len();
        if admitted && GroupFit::of(&decisions[group.clone()]) == GroupFit::Fits {
            group.for_each(|index| decider.spend(index, &mut decisions[index]));
        } else if lacks_debits_only(charges, &decisions[group.clone()]) {
            let counting = group.filter(|index| counts || batch.charges[*index].is_booked());
            counting.for_each(|index| decider.count(index, &mut decisions[index]));
        }
        first += charges.len();
    }
    decider.report_held();
    decider.report_graces();
    decider.report_simple(&mut decisions);
    decider.keep_debts();
    decider.report_bonuses();
    let (levels, notices) = (decider.levels, decider.notices);
    for record in records {
        record.forget(at);
    }
    Outcome { admitted, at, decisions, levels, notices, fallback: false }
}

/// A batch on its records, all settled.
pub(super) struct Decider<'a> {
    pub(super) batch: &'a Batch,
    pub(super) records: &'a mut [Record],
    /// Where in its record each charge's state stands.
    pub(super) places: SmallVec<[usize; INLINE_CAP]>,
    /// How each charge is decided, as far as they were asked.
    pub(super) ways: SmallVec<[Way; INLINE_CAP]>,
    pub(super) levels: SmallVec<[u8; 1]>,
    pub(super) notices: Vec<Notice>,
    /// The hits that each part of a request gets that passes, from 1 on; empty if no charge is made in part.
    pub(super) grants: Vec<u64>,
    /// Buckets that paid at the rates of earlier times, by charge: as they were written, and as they are now.
    paid: Vec<(usize, [State; 2])>,
    pub(super) now: Timestamp,
}

/// How a charge is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// All of its limit is open to it.
    Plain,
    /// So many hits of its limit are open to it now, of which it asks for some.
    Open(u64),
    /// There is more to it.
    Special,
}

/// Whether a charge was made before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Made {
    No,
    Yes,
    /// Under the idempotency key of its request.
    Retried(Retry),
    /// The same, and it counts although all attempts were refused so far.
    Refused(Retry),
}

impl<'a> Decider<'a> {
    fn new(batch: &'a Batch, records: &'a mut [Record], now: Timestamp) -> Self {
        // What was written to be gone by now is gone, whatever a changed limit would make of it.
        records.iter_mut().for_each(|record| record.forget(now));
        let (mut places, mut paid) = (SmallVec::new(), Vec::new());
        for (index, charge) in batch.charges.iter().enumerate() {
            let record = &mut records[charge.key_index];
            let place = record.place(&charge.limit);
            let state = &mut record.states[place].state;
            let written = charge.limit.pay_past(state, now);
            charge.limit.at(now).settle(state, now);
            if let Some(written) = written {
                paid.push((index, [written, state.clone()]));
            }
            places.push(place);
        }
        let (ways, levels) = (SmallVec::new(), SmallVec::new());
        let (notices, grants) = (Vec::new(), Vec::new());
        Self { batch, records, places, ways, levels, notices, grants, paid, now }
    }

    /// Keeps the debts of buckets as they were written unless something was charged: how much is left of them always follows
    /// from that.
    fn keep_debts(&mut self) {
        for (index, [written, now]) in mem::take(&mut self.paid) {
            let entry = self.entry(index);
            if entry.state == now && now != State::Empty {
                entry.state = written;
            }
        }
    }

    pub(super) fn state(&self, index: usize) -> &State {
        let record = &self.records[self.batch.charges[index].key_index];
        &record.states[self.places[index]].state
    }

    /// The limit of a charge as it is now.
    pub(super) fn limit(&self, index: usize) -> &'a Arc<Limit> {
        self.batch.charges[index].limit.at(self.now)
    }

    pub(super) fn settled(&self, index: usize) -> Settled<'_> {
        let charge = &self.batch.charges[index];
        let held = self.holdings(charge);
        Settled { limit: self.limit(index), state: self.state(index), now: self.now, held }
    }

    pub(super) fn entry(&mut self, index: usize) -> &mut Entry {
        let record = &mut self.records[self.batch.charges[index].key_index];
        &mut record.states[self.places[index]]
    }

    /// Whether the limit of a charge has the hits, and how it stands unless that is reported in the end.
    fn ask(&mut self, index: usize) -> Decision {
        let charge = &self.batch.charges[index];
        let made = self.made(charge);
        let way = self.way(index, made);
        self.ways.push(way);
        if let Some(fit) = self.simple_fit(index, way) {
            return Decision {
                clipped: charge.unmade_back(),
                ..Decision::new(fit, Standing::UNKNOWN)
            };
        }
        let (fit, retry) = match made {
            Made::Yes => (Some(Fit::Now), None),
            Made::Retried(retry) if retry.is_free() => (Some(Fit::Now), Some(retry)),
            Made::Retried(retry) => (Some(Fit::Never), Some(retry)),
            Made::Refused(retry) => (None, Some(retry)),
            Made::No => (None, None),
        };
        let mut allowance = match made {
            Made::Yes => self.present_allowance(charge),
            _ => self.allowance(charge),
        };
        // What follows looks at later times too.
        let standing = self.standing(index, &allowance);
        let fit = fit.unwrap_or_else(|| self.fit(index, made, &mut allowance));
        let clipped = if retry.is_some_and(Retry::is_free) { 0 } else { charge.unmade_back() };
        Decision { retry, clipped, ..Decision::new(fit, standing) }
    }

    /// Whether a charge's limit has the hits. For a debit that was refused, and counts already, whether it is not overdrawn.
    pub(super) fn fit(&self, index: usize, made: Made, allowance: &mut Allowance) -> Fit {
        let charge = &self.batch.charges[index];
        if self.fits_by_reservation(charge) {
            return Fit::Now;
        }
        if let Some(alone) = charge.alone() {
            return self.fit_alone((index, alone), allowance);
        }
        let peek;
        let charge = match made {
            Made::Refused(_) => {
                let (hits, reservation) = (Hits::Spend(0), charge.counting());
                peek = Charge { hits, refused: Refused::Counted, reservation, ..charge.clone() };
                &peek
            }
            Made::No | Made::Yes | Made::Retried(_) => charge,
        };
        let on = self.settled(index);
        let need = charge.needs();
        let fits = match charge.is_peek() && need == Hits::Spend(0) {
            true => !allowance.is_overdrawn(&on),
            false => allowance.suffice(&on, need),
        };
        if !self.wait_for_place(charge, allowance) && fits {
            return Fit::Now;
        }
        allowance.available.extend(self.later_capacity(charge));
        allowance.add_grace(&on);
        let fit = allowance.wait(&on, need);
        match charge.limit.outlook(self.now) {
            None => fit,
            Some(outlook) => {
                let pressed_at = |from_ms| {
                    let levels = |gauge| self.level_at(gauge, from_ms);
                    charge.pressed(on.limit, levels).min()
                };
                fit_on_schedule((charge, outlook), (&on, allowance), fit, pressed_at)
            }
        }
    }

    pub(super) fn standing(&self, index: usize, allowance: &Allowance) -> Standing {
        let on = self.settled(index);
        Standing { remaining: allowance.remaining(&on), ..on.limit.standing(on.state, on.now) }
    }

    /// What a charge may spend now.
    pub(super) fn allowance(&mut self, charge: &Charge) -> Allowance {
        self.prolong_bonuses(charge);
        self.present_allowance(charge)
    }

    /// The same for a charge that changes nothing.
    fn present_allowance(&mut self, charge: &Charge) -> Allowance {
        let now_ms = self.now.as_ms();
        let bonuses = self.bonuses(charge);
        let levels = |gauge: usize| self.levels[gauge];
        let limit = charge.limit.at(self.now);
        let hits = charge.open_at(limit, levels);
        let capacity = AvailableCapacity { from_ms: now_ms, until_ms: u64::MAX, hits };
        let begun = self.records[charge.key_index].grace(charge.limit.tag());
        let grace = charge.grace_of(limit).map(|grace| grace.left(begun));
        let step = charge.step();
        let holds = matches!(step, Some(Reservation::Hold { .. } | Reservation::Estimate { .. }));
        let held = self.held(charge);
        Allowance { available: SmallVec::from_elem(capacity, 1), bonuses, grace, held, holds }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::limit::{Algorithm, Fixed, Limit, Sliding};
    use crate::policy::{Key, Lease};

    const WINDOW_MS: u64 = 60_000;
    const SLOT_MS: u64 = 1_000;

    fn sliding(amount: u64) -> Limit {
        Limit::new(amount, Algorithm::Sliding(Sliding::new(WINDOW_MS, amount)))
    }

    fn batch(limit: Limit, hits: Hits) -> Batch {
        let mut batch = Batch::default();
        let key_index = batch.key_index(Key::of_domain("d"));
        batch
            .charges
            .push(Charge { lease: Lease::Auto, ..Charge::plain(key_index, Arc::new(limit), hits) });
        batch
    }

    /// What a request that spends one and asks for `ahead` gets on a new counter, and the record then.
    fn ask(limit: Limit, hits: u64, ahead: u64) -> (Outcome, [Record; 1]) {
        let mut records = [Record::default()];
        let mut asking = batch(limit, Hits::Spend(hits));
        asking.charges[0].ahead = ahead;
        (decide(&asking, &mut records, Timestamp::from_ms(0)), records)
    }

    #[test]
    fn hits_are_lent_out_of_what_remains_of_a_sliding_window() {
        let ahead = |limit, hits, ahead| {
            let (outcome, _) = ask(limit, hits, ahead);
            let decision = outcome.decisions[0];
            (outcome.admitted, decision.ahead, decision.standing.remaining)
        };
        assert_eq!(ahead(sliding(1_000), 200, 50), (true, 50, 750));
        assert_eq!(ahead(sliding(1_000), 200, 500), (true, 100, 700));
        assert_eq!(ahead(sliding(1_000), 993, 500), (true, 0, 7));
        assert_eq!(ahead(sliding(1_000), 1_001, 500), (false, 0, 1_000));
        let fixed = Limit::new(1_000, Algorithm::Fixed(Fixed::new(WINDOW_MS)));
        assert_eq!(ahead(fixed, 200, 50), (true, 0, 800));
    }

    #[test]
    fn hits_that_are_lent_count_one_slot_longer() {
        let (_, mut records) = ask(sliding(1_000), 200, 50);
        let mut remaining = |at_ms| {
            let peek = batch(sliding(1_000), Hits::Spend(0));
            let outcome = decide(&peek, &mut records, Timestamp::from_ms(at_ms));
            outcome.decisions[0].standing.remaining
        };
        // The slots of 0 to 999 ms and of 1,000 to 1,999 ms.
        assert_eq!(remaining(SLOT_MS - 1 + WINDOW_MS - 1), 750);
        assert_eq!(remaining(SLOT_MS - 1 + WINDOW_MS), 950);
        assert_eq!(remaining(2 * SLOT_MS - 1 + WINDOW_MS - 1), 950);
        assert_eq!(remaining(2 * SLOT_MS - 1 + WINDOW_MS), 1_000);
    }

    #[test]
    fn what_comes_back_too_late_takes_no_hits_of_others() {
        let (_, mut records) = ask(sliding(1_000), 200, 50);
        let mut give_back = |at_ms| {
            let mut back = batch(sliding(1_000), Hits::GiveBack(30));
            back.charges[0].until = Some(Timestamp::from_ms(2 * SLOT_MS - 1 + WINDOW_MS));
            let outcome = decide(&back, &mut records, Timestamp::from_ms(at_ms));
            (outcome.admitted, outcome.decisions[0].standing.remaining)
        };
        assert_eq!(give_back(499), (true, 780));
        // The 200 have left by then; of the 50, 20 are there still.
        assert_eq!(give_back(2 * SLOT_MS - 2 + WINDOW_MS), (true, 1_000));
    }

    #[test]
    fn what_comes_back_was_in_the_slot_of_the_lease() {
        let (_, mut records) = ask(sliding(1_000), 200, 50);
        let mut spend = |hits, at_ms, until_ms: Option<u64>| {
            let mut back = batch(sliding(1_000), hits);
            back.charges[0].until = until_ms.map(Timestamp::from_ms);
            let outcome = decide(&back, &mut records, Timestamp::from_ms(at_ms));
            outcome.decisions[0].standing.remaining
        };
        let (leased_ms, later_ms) = (2 * SLOT_MS - 1, 2 * SLOT_MS);
        assert_eq!(spend(Hits::Spend(100), later_ms, None), 650);
        assert_eq!(spend(Hits::GiveBack(30), later_ms, Some(leased_ms + WINDOW_MS)), 680);
        let peek = Hits::Spend(0);
        assert_eq!(spend(peek, SLOT_MS - 1 + WINDOW_MS, None), 880, "the first 200 have left");
        assert_eq!(spend(peek, leased_ms + WINDOW_MS, None), 900, "the 20 that were spent, too");
        assert_eq!(
            spend(Hits::GiveBack(5), leased_ms + WINDOW_MS, Some(leased_ms + WINDOW_MS)),
            900
        );
    }
}
