//! Decides while the shared store is unavailable: each charge by its limit's `on_outage`.
//!
//! `allow` and `deny` are answers. With `error` the request fails, unless another limit refuses it, and nothing is
//! spent. With `local` this sidecar enforces its share of the last known free part of the limit, and counts the hits
//! that it spends. They are a debt, which is charged in the store when it is available, even beyond the limit: an
//! outage resets no quota.
//!
//! A share is not a smaller limit: each hit counts once for each sidecar. So windows, slots and buckets are those of
//! the limit itself, and all sidecars together admit at most the limit (except for limits of less than one hit per
//! sidecar).

mod debts;
mod known;

use std::sync::Arc;

use smallvec::SmallVec;

use super::embedded::{Memory, Spent};
use super::sidecars::Sidecars;
use super::{Batch, Charge, Decision, INLINE_CAP, Notice, Open, Outcome, Retry, StoreError};
use crate::clock::Timestamp;
use crate::limit::{Algorithm, Fit, Hits, Limit, Standing};
use crate::policy::{Key, KeyEntry, Lease, OnOutage, Refused};

pub use debts::Debt;
use debts::{Credit, Debts};
use known::{KnownUse, KnownUses};

/// Maximum number of debts that are taken at a time.
const DEBTS_MAX: usize = 1_024;

/// Decides while a store is unavailable, and keeps the debts to it.
#[derive(Debug)]
pub struct Fallback {
    /// Hits that were spent here, each counted once for each sidecar.
    counts: Memory,
    /// The state of limits when the store was last available.
    known: KnownUses,
    /// The calls that wait until the store is available.
    debts: Debts,
    sidecars: Sidecars,
}

/// A charge by the fallback.
#[derive(Debug)]
struct Own {
    charge: Charge,
    /// The fit in its limit.
    capacity: u64,
    /// The last known state of that limit.
    known: Option<KnownUse>,
}

impl Fallback {
    /// Without known states. About `keys_max` counters and states are kept. `sidecars` share a limit; if None, their
    /// number comes from heartbeats.
    pub fn new(keys_max: usize, sidecars: Option<u32>) -> Self {
        Self {
            counts: Memory::new(keys_max),
            known: KnownUses::new(keys_max),
            debts: Debts::new(keys_max),
            sidecars: Sidecars::new(sidecars),
        }
    }

    /// Updates the number of sidecars. While there are debts, their number stays the same as when the hits were spent.
    pub fn update_sidecars(&self, sidecars: u32) {
        if !self.owes() {
            self.sidecars.record(sidecars);
        }
    }

    /// Removes the counters with one of these entries in their key.
    pub fn erase(&self, entries: &[KeyEntry]) {
        self.counts.erase(entries);
    }

    /// Removes the counters under a key.
    pub fn remove(&self, key: &Key) {
        self.counts.remove(key);
    }

    /// The number of sidecars that share a limit.
    pub fn sidecars(&self) -> u32 {
        self.sidecars.number()
    }

    /// Stores the state of limits in an answer of the store.
    pub fn learn(&self, batch: &Batch, outcome: &Outcome, now: Timestamp) {
        for (charge, decision) in batch.charges.iter().zip(&outcome.decisions) {
            if charge.on_outage == OnOutage::Local {
                let used = open(&charge.at(now)).saturating_sub(decision.standing.remaining);
                let reset_ms = decision.standing.reset_ms.unwrap_or(u64::MAX);
                let until = Timestamp::from_ms(now.as_ms().saturating_add(reset_ms));
                let known = KnownUse { used, at: now, until };
                self.known.insert(&batch.keys[charge.key_index], &charge.limit, known);
            }
        }
    }

    /// Decides a batch that failed in the store with `error`, or was not sent. Bonuses are counted only in the store,
    /// and there is no pressure. If the store may have made the charges, hits are spent here too, and none are given
    /// back: hits that count twice admit no request by mistake, but hits given back twice would.
    pub fn decide(&self, batch: &Batch, error: Option<&StoreError>, now: Timestamp) -> Outcome {
        let takes_back = error.is_none_or(StoreError::is_unmade);
        let batch = &*batch.at(now);
        let own = |charge| self.own(charge, self.known(batch, charge, now), takes_back);
        let own: SmallVec<[Own; INLINE_CAP]> = batch.charges.iter().map(own).collect();
        let charges = own.iter().map(|own| own.charge.clone()).collect();
        let mut asked = Batch { keys: batch.keys.clone(), charges, gauges: Vec::new() };
        if batch.charges.iter().any(|charge| fails(charge) && charge.mode.refuses()) {
            asked.look();
        }
        let credits = if takes_back { self.credits_of(batch, now) } else { Vec::new() };
        let mut outcome = self.counts.charge_at(&asked, now);
        if outcome.admitted {
            // An earlier attempt has given back the hits of a retry.
            let made = |index: usize| outcome.decisions[index].retry.is_none();
            let credits = credits.into_iter().filter(|(index, ..)| made(*index));
            credits.for_each(|(_, key, credit)| self.debts.credit(key, credit));
        }
        if batch.charges.iter().any(|charge| charge.on_outage == OnOutage::Local) {
            self.debts.expect();
        }
        outcome.decisions.truncate(own.len());
        for ((own, charge), decision) in own.iter().zip(&batch.charges).zip(&mut outcome.decisions)
        {
            if charge.comes_back() {
                decision.clipped = self.kept_back(charge, &own.charge, decision);
            }
            *decision = match own.charge.on_outage {
                OnOutage::Local => self.reported(own, *decision, now),
                OnOutage::Allow | OnOutage::Deny | OnOutage::Error => {
                    let remaining = if decision.fit == Fit::Now { own.capacity } else { 0 };
                    let standing = Standing { remaining, reset_ms: None };
                    Decision { standing, failed: fails(&own.charge), ..*decision }
                }
            };
        }
        outcome.levels = SmallVec::from_elem(0, batch.gauges.len());
        // The next charge in the store reports the rest.
        outcome.notices.retain_mut(|notice| {
            let times = own.get(notice.charge).map_or(1, |own| self.times(&own.charge.limit));
            *notice = Notice { settled: notice.settled / times, ..Notice::of(notice.charge) };
            notice.settled != 0
        });
        outcome.fallback = true;
        outcome
    }

    /// Whether there are debts or hits to give back. After all are paid, this is updated by [`Fallback::look`].
    pub fn owes(&self) -> bool {
        self.debts.may_owe()
    }

    /// Checks whether there are still debts.
    pub fn look(&self) {
        self.debts.look(|| self.counts.keys() != 0);
    }

    /// Hits that were charged in the store later.
    pub fn paid(&self) -> u64 {
        self.debts.paid()
    }

    /// Counts hits that were charged in the store.
    pub fn pay(&self, batch: &Batch) {
        self.debts.pay(batch);
    }

    /// Takes some calls to the store, at most one for each counter: debts that may have been paid, else new debts, else
    /// hits to give back, which would have nothing to reduce before. A debt without an answer of the store has to be
    /// [kept](Fallback::owe_again).
    pub fn take_debts(&self, now: Timestamp) -> Vec<Debt> {
        let unsure = self.debts.take_unsure(now);
        if !unsure.is_empty() {
            return unsure;
        }
        let spent = self.take_spent(now);
        if !spent.is_empty() {
            return spent;
        }
        self.debts.take_credits()
    }

    /// Keeps a debt that the store did not confirm.
    pub fn owe_again(&self, debt: Debt) {
        self.debts.owe_again(debt);
    }

    /// Takes the hits that were spent here.
    fn take_spent(&self, now: Timestamp) -> Vec<Debt> {
        let debts = self.counts.drain(DEBTS_MAX, now).into_iter().map(|spent| {
            let hits = spent.hits.div_ceil(self.times(&spent.limit));
            // Until the store has reported the limit's new state, they count against the share as before.
            let known = self.known.get(&spent.key, &spent.limit, now);
            let known = known.unwrap_or(KnownUse { used: 0, at: now, until: now });
            let until = known.until.max(spent.until.unwrap_or(Timestamp::MAX));
            let used = known.used.saturating_add(spent.hits);
            self.known.insert(&spent.key, &spent.limit, KnownUse { used, at: now, until });
            self.debts.charge(Spent { hits, ..spent })
        });
        debts.collect()
    }

    /// Charges a limit by the fallback.
    fn own(&self, charge: &Charge, known: Option<KnownUse>, takes_back: bool) -> Own {
        let capacity = charge.limit.capacity();
        // Grace is counted only in the store.
        let limit = match charge.limit.grace() {
            Some(_) => Arc::new(Limit::clone(&charge.limit).without_grace()),
            None => charge.limit.clone(),
        };
        let plain = Charge {
            limit,
            open: Open::all(),
            bonuses: Vec::new(),
            bonus_alone: None,
            tells_bonuses: false,
            amends: None,
            lease: Lease::Off,
            refused: Refused::Free,
            ahead: 0,
            once: None,
            // What all sidecars together have of a limit is unknown: all hits pass or none.
            part: 0,
            reservation: None,
            ..charge.clone()
        };
        let (refused, once) = (charge.refused, charge.once.filter(|once| once.mark().is_some()));
        let times = self.times(&charge.limit);
        let reservation = charge.reservation.as_deref().map(|step| Box::new(step.times(times)));
        let charge = match (charge.on_outage, charge.hits) {
            (OnOutage::Deny, Hits::Spend(1..)) => {
                Charge { limit: Arc::new(Limit::new(0, Algorithm::Total)), ..plain }
            }
            (OnOutage::Deny | OnOutage::Allow | OnOutage::Error, _) => {
                Charge { hits: Hits::Spend(0), ..plain }
            }
            (_, Hits::GiveBack(_)) if !takes_back => Charge { hits: Hits::Spend(0), ..plain },
            (OnOutage::Local, hits) => {
                let used = known.map_or(0, |known| known.used);
                let open = Open { hits: open(charge).saturating_sub(used), pressed: Vec::new() };
                let hits = match hits {
                    Hits::Spend(hits) => Hits::Spend(hits.saturating_mul(times)),
                    Hits::GiveBack(hits) => Hits::GiveBack(hits.saturating_mul(times)),
                };
                Charge { open, hits, refused, once, reservation, ..plain }
            }
        };
        Own { charge, capacity, known }
    }

    /// The hits of a charge that did not come back here, of those that are to. Whether the store has more of them in use is
    /// unknown.
    fn kept_back(&self, charge: &Charge, own: &Charge, decision: &Decision) -> u64 {
        let here = match own.hits {
            Hits::GiveBack(_) => own.hits.amount().saturating_sub(decision.clipped),
            Hits::Spend(_) => 0,
        };
        charge.hits.amount().saturating_sub(here / self.times(&charge.limit))
    }

    /// The decision that is returned for a charge here.
    fn reported(&self, own: &Own, decision: Decision, now: Timestamp) -> Decision {
        let remaining = decision.standing.remaining / self.times(&own.charge.limit);
        let standing = Standing { remaining, ..decision.standing };
        let Some(known) = own.known else { return Decision { standing, ..decision } };
        let whole_ms = known.until.as_ms().saturating_sub(now.as_ms());
        let capacity = own.charge.limit.capacity();
        let ever = own.charge.hits.amount() <= capacity && known.until < Timestamp::MAX;
        let fit = match decision.fit {
            Fit::Never if ever && decision.retry != Some(Retry::Conflict) => Fit::AfterMs(whole_ms),
            fit => fit,
        };
        let reset_ms = standing.reset_ms.map(|ms| ms.max(whole_ms));
        Decision { fit, standing: Standing { reset_ms, ..standing }, ..decision }
    }

    /// How often a hit counts here: once for each sidecar, but at least one hit of the limit fits.
    fn times(&self, limit: &Limit) -> u64 {
        u64::from(self.sidecars()).min(limit.capacity()).max(1)
    }

    /// The last known state of a charge's limit, if it still applies.
    fn known(&self, batch: &Batch, charge: &Charge, now: Timestamp) -> Option<KnownUse> {
        match charge.on_outage {
            OnOutage::Local => self.known.get(&batch.keys[charge.key_index], &charge.limit, now),
            OnOutage::Allow | OnOutage::Deny | OnOutage::Error => None,
        }
    }

    /// The hits that a batch gives back and that were not spent here, by charge.
    fn credits_of(&self, batch: &Batch, now: Timestamp) -> Vec<(usize, Key, Credit)> {
        let back =
            batch.charges.iter().enumerate().filter(|(_, charge)| charge.may_come_back_later());
        let credits = back.map(|(index, charge)| {
            let key = &batch.keys[charge.key_index];
            let here = self.counts.used(key, &charge.limit, now) / self.times(&charge.limit);
            let hits = charge.hits.amount().saturating_sub(here);
            (index, key.clone(), Credit { limit: charge.limit.clone(), hits })
        });
        credits.filter(|(.., credit)| 0 < credit.hits).collect()
    }
}

/// Whether a charge can't be decided without the store.
fn fails(charge: &Charge) -> bool {
    charge.on_outage == OnOutage::Error
}

/// The part of a charge's limit that it may use without pressure.
fn open(charge: &Charge) -> u64 {
    charge.open.hits.min(charge.limit.capacity())
}

#[cfg(test)]
mod tests {
    use smallvec::smallvec;

    use super::*;
    use crate::limit::{Bucket, Sliding};
    use crate::policy::{Mode, RetryId};
    use crate::store::{FINAL, GroupFit, IdempotencyMark, Once};

    const MINUTE_MS: u64 = 60_000;

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_ms(1_700_000_040_000 + ms)
    }

    fn sliding(amount: u64) -> Arc<Limit> {
        let sliding = Sliding::new(MINUTE_MS, amount);
        Arc::new(Limit::new(amount, Algorithm::Sliding(sliding)))
    }

    fn ask(limit: &Arc<Limit>, hits: Hits) -> Batch {
        let on_outage = OnOutage::Local;
        let charge = Charge { on_outage, ..Charge::plain(0, limit.clone(), hits) };
        let keys = smallvec![Key::of_domain("d")];
        Batch { keys, charges: vec![charge], gauges: Vec::new() }
    }

    fn shared_by(sidecars: u32) -> Fallback {
        Fallback::new(1_000, Some(sidecars))
    }

    /// The number of single hits that pass before one is refused.
    fn passing(fallback: &Fallback, limit: &Arc<Limit>, ms: u64) -> usize {
        let passes =
            |_: &usize| fallback.decide(&ask(limit, Hits::Spend(1)), None, at(ms)).admitted;
        (0..1_000).take_while(passes).count()
    }

    /// A store with this many charges of the limit, and this sidecar's state of it.
    fn store_with(fallback: &Fallback, limit: &Arc<Limit>, hits: u64) -> Memory {
        let store = Memory::new(1_000);
        let batch = ask(limit, Hits::Spend(hits));
        let outcome = store.charge_at(&batch, at(0));
        fallback.learn(&batch, &outcome, at(0));
        store
    }

    fn pay(fallback: &Fallback, store: &Memory, ms: u64) {
        while fallback.owes() {
            for debt in fallback.take_debts(at(ms)) {
                assert!(store.charge_at(&debt.batch, at(ms)).admitted, "a debt always fits");
            }
            fallback.look();
        }
    }

    fn used(store: &Memory, limit: &Arc<Limit>, ms: u64) -> u64 {
        store.used(&Key::of_domain("d"), limit, at(ms))
    }

    /// A debit is already spent, so it is a debt in full, and peeks are refused here meanwhile.
    #[test]
    fn a_debit_that_a_share_does_not_have_is_owed_all_the_same() {
        let limit = sliding(100);
        let fallback = shared_by(2);
        let store = store_with(&fallback, &limit, 60);
        let named = |hits| {
            let mut batch = ask(&limit, Hits::Spend(hits));
            batch.charges[0].refused = Refused::Counted;
            fallback.decide(&batch, None, at(10))
        };
        assert!(named(0).admitted);
        let outcome = named(31);
        assert!(!outcome.admitted && outcome.decisions[0].counted);
        assert!(!named(0).admitted);
        pay(&fallback, &store, 20);
        assert_eq!(used(&store, &limit, 20), 91);
    }

    #[test]
    fn each_sidecar_has_its_share_of_what_was_free() {
        let limit = sliding(100);
        assert_eq!(passing(&shared_by(1), &limit, 0), 100);
        assert_eq!(passing(&shared_by(3), &limit, 0), 33);
        let fallback = shared_by(4);
        store_with(&fallback, &limit, 60);
        assert_eq!(passing(&fallback, &limit, 10), 10);
        // The hits in use at that time are free by now, and those spent here since are not.
        assert_eq!(passing(&fallback, &limit, MINUTE_MS + 2_000), 25);
    }

    #[test]
    fn a_limit_lets_each_sidecar_have_one_hit_at_least() {
        assert_eq!(passing(&shared_by(50), &sliding(10), 0), 1);
        assert_eq!(passing(&shared_by(50), &sliding(0), 0), 0);
    }

    #[test]
    fn a_refusal_tells_what_remains_and_how_long_to_wait() {
        let limit = sliding(100);
        let fallback = shared_by(2);
        store_with(&fallback, &limit, 90);
        let first = fallback.decide(&ask(&limit, Hits::Spend(1)), None, at(10));
        assert_eq!((first.decisions[0].standing.remaining, first.fallback), (4, true));
        let refused = fallback.decide(&ask(&limit, Hits::Spend(20)), None, at(10)).decisions[0];
        let Fit::AfterMs(wait_ms) = refused.fit else { panic!("{refused:?}") };
        assert!(!fallback.decide(&ask(&limit, Hits::Spend(20)), None, at(9 + wait_ms)).admitted);
        assert!(fallback.decide(&ask(&limit, Hits::Spend(20)), None, at(10 + wait_ms)).admitted);
        let never = fallback.decide(&ask(&limit, Hits::Spend(101)), None, at(10)).decisions[0];
        assert_eq!(never.fit, Fit::Never);
    }

    #[test]
    fn what_was_spent_meanwhile_is_charged_though_the_limit_is_full() {
        let limit = sliding(100);
        let fallback = shared_by(2);
        let store = store_with(&fallback, &limit, 50);
        assert_eq!(passing(&fallback, &limit, 10), 25);
        assert_eq!(used(&store, &limit, 20), 50);
        // Others were faster.
        store.charge_at(&ask(&limit, Hits::Spend(50)), at(20));
        pay(&fallback, &store, 20);
        assert_eq!(used(&store, &limit, 20), 125);
    }

    #[test]
    fn a_debt_that_was_not_taken_is_owed_as_before() {
        let limit = sliding(100);
        let fallback = shared_by(3);
        assert_eq!(passing(&fallback, &limit, 0), 33);
        fallback.take_debts(at(5)).into_iter().for_each(|debt| fallback.owe_again(debt));
        assert_eq!(passing(&fallback, &limit, 5), 0);
        let store = Memory::new(10);
        pay(&fallback, &store, 6);
        assert_eq!(used(&store, &limit, 6), 33);
    }

    #[test]
    fn a_debt_that_may_have_been_taken_is_taken_once() {
        let limit = Arc::new(Limit::new(100, Algorithm::Total));
        let fallback = shared_by(1);
        let store = store_with(&fallback, &limit, 50);
        for hits in [Hits::Spend(7), Hits::GiveBack(20)] {
            fallback.decide(&ask(&limit, hits), None, at(0));
        }
        while fallback.owes() {
            let debts = fallback.take_debts(at(5));
            for debt in debts {
                // The answer to the first is lost.
                let before = used(&store, &limit, 5);
                store.charge_at(&debt.batch, at(5));
                let after = used(&store, &limit, 5);
                if before != after {
                    fallback.owe_again(debt);
                }
            }
            fallback.look();
        }
        assert_eq!(used(&store, &limit, 6), 50 + 7 - 20);
    }

    #[test]
    fn a_debt_that_was_not_taken_is_owed_as_long_as_it_counts() {
        let limit = sliding(100);
        let fallback = shared_by(1);
        assert_eq!(passing(&fallback, &limit, 0), 100);
        fallback.take_debts(at(5)).into_iter().for_each(|debt| fallback.owe_again(debt));
        let store = Memory::new(10);
        pay(&fallback, &store, 2 * MINUTE_MS);
        assert_eq!(used(&store, &limit, 2 * MINUTE_MS), 0);
    }

    #[test]
    fn what_has_left_the_window_is_owed_no_more() {
        let limit = sliding(100);
        let fallback = shared_by(1);
        fallback.decide(&ask(&limit, Hits::Spend(40)), None, at(0));
        fallback.decide(&ask(&limit, Hits::Spend(2)), None, at(30_000));
        let store = Memory::new(10);
        pay(&fallback, &store, MINUTE_MS + 1_000);
        assert_eq!(used(&store, &limit, MINUTE_MS + 1_000), 2);
    }

    #[test]
    fn what_comes_back_frees_here_what_was_spent_here_and_there_what_was_spent_there() {
        let limit = Arc::new(Limit::new(4, Algorithm::Total));
        let fallback = shared_by(2);
        let store = store_with(&fallback, &limit, 2);
        assert_eq!(passing(&fallback, &limit, 0), 1);
        let back = ask(&limit, Hits::GiveBack(2));
        assert!(fallback.decide(&back, None, at(1)).admitted);
        assert_eq!(passing(&fallback, &limit, 1), 1);
        pay(&fallback, &store, 2);
        assert_eq!(used(&store, &limit, 2), 2 + 1 - 1);
    }

    #[test]
    fn what_may_have_come_back_already_does_not_come_back_again() {
        let limit = Arc::new(Limit::new(4, Algorithm::Total));
        let fallback = shared_by(1);
        let store = store_with(&fallback, &limit, 2);
        let late = StoreError::Late { deadline: std::time::Duration::from_millis(1) };
        assert!(fallback.decide(&ask(&limit, Hits::GiveBack(1)), Some(&late), at(1)).admitted);
        pay(&fallback, &store, 2);
        assert_eq!(used(&store, &limit, 2), 2);
    }

    #[test]
    fn what_a_retry_gives_back_comes_back_once() {
        let limit = Arc::new(Limit::new(10, Algorithm::Total));
        let fallback = shared_by(2);
        let store = store_with(&fallback, &limit, 8);
        for _ in 0..4 {
            let mut back = ask(&limit, Hits::GiveBack(1));
            let key_index = back.key_index(back.keys[0].mark(None, RetryId::Entry("id")));
            let mark =
                IdempotencyMark { key_index: 0, retries_max: 5, life_ms: 60_000, attempt: FINAL };
            back.charges[0].once = Some(Once::Mark(mark).under(key_index));
            assert!(fallback.decide(&back, None, at(1)).admitted);
        }
        pay(&fallback, &store, 2);
        assert_eq!(used(&store, &limit, 2), 7);
    }

    #[test]
    fn a_bucket_fills_at_its_share_of_the_rate() {
        let bucket = Bucket::new(60, MINUTE_MS, 20).unwrap();
        let limit = Arc::new(Limit::new(60, Algorithm::Bucket(bucket)));
        let fallback = shared_by(2);
        store_with(&fallback, &limit, 10);
        assert_eq!(passing(&fallback, &limit, 0), 5);
        assert_eq!(passing(&fallback, &limit, 4_000), 4);
    }

    #[test]
    fn limits_that_allow_or_deny_answer_so_and_count_nothing() {
        let limit = sliding(5);
        let fallback = shared_by(2);
        let asked = |on_outage, hits| {
            let mut batch = ask(&limit, hits);
            batch.charges[0].on_outage = on_outage;
            let outcome = fallback.decide(&batch, None, at(0));
            (outcome.admitted, outcome.decisions[0].standing.remaining)
        };
        assert_eq!(asked(OnOutage::Allow, Hits::Spend(9)), (true, 5));
        assert_eq!(asked(OnOutage::Deny, Hits::Spend(1)), (false, 0));
        assert_eq!(asked(OnOutage::Deny, Hits::Spend(0)), (true, 5));
        assert_eq!(asked(OnOutage::Deny, Hits::GiveBack(1)), (true, 5));
        assert!(!fallback.owes());
    }

    /// Whether the store has more of them in use is unknown.
    #[test]
    fn only_hits_that_were_spent_here_are_known_to_come_back() {
        let limit = sliding(100);
        let fallback = shared_by(2);
        store_with(&fallback, &limit, 60);
        let clipped = |on_outage, hits, error: Option<&StoreError>| {
            let mut batch = ask(&limit, hits);
            batch.charges[0].on_outage = on_outage;
            fallback.decide(&batch, error, at(10)).decisions[0].clipped
        };
        for on_outage in [OnOutage::Allow, OnOutage::Deny, OnOutage::Error] {
            assert_eq!(clipped(on_outage, Hits::GiveBack(3), None), 3);
        }
        assert_eq!(clipped(OnOutage::Local, Hits::GiveBack(3), None), 3);
        assert_eq!(clipped(OnOutage::Local, Hits::Spend(5), None), 0);
        let late = StoreError::Late { deadline: std::time::Duration::from_millis(1) };
        assert_eq!(clipped(OnOutage::Local, Hits::GiveBack(2), Some(&late)), 2);
        assert_eq!(clipped(OnOutage::Local, Hits::GiveBack(2), None), 0);
        assert_eq!(clipped(OnOutage::Local, Hits::GiveBack(7), None), 4);
    }

    #[test]
    fn a_request_that_another_limit_denies_costs_nothing() {
        let limit = sliding(5);
        let fallback = shared_by(1);
        let mut batch = ask(&limit, Hits::Spend(1));
        let denied = Charge { group: 1, on_outage: OnOutage::Deny, ..batch.charges[0].clone() };
        batch.charges.push(denied);
        assert!(!fallback.decide(&batch, None, at(0)).admitted);
        assert_eq!(passing(&fallback, &limit, 0), 5);
    }

    #[test]
    fn the_number_of_sidecars_stays_while_something_is_owed() {
        let fallback = Fallback::new(10, None);
        fallback.update_sidecars(7);
        fallback.decide(&ask(&sliding(5), Hits::Spend(1)), None, at(0));
        fallback.update_sidecars(9);
        assert_eq!(fallback.sidecars(), 7);
    }

    /// What is charged of a limit that decides by itself beside one that fails, in every mode of that one.
    #[test]
    fn a_limit_that_fails_has_the_request_fail_and_nothing_is_spent() {
        let limit = sliding(5);
        let check = |mode, hits, failed: bool, used: usize| {
            let fallback = shared_by(1);
            let mut batch = ask(&limit, Hits::Spend(1));
            let other = Charge { group: 1, mode, hits, ..batch.charges[0].clone() };
            let key_index = batch.key_index(Key::of_domain("other"));
            batch.charges.push(Charge { key_index, on_outage: OnOutage::Error, ..other });
            let outcome = fallback.decide(&batch, None, at(0));
            let reported: Vec<_> =
                outcome.decisions.iter().map(|one| (one.fit, one.failed)).collect();
            assert_eq!(reported, [(Fit::Now, false), (Fit::Now, true)], "{mode}");
            assert_eq!((outcome.admitted, outcome.fallback), (!failed, true), "{mode}");
            let left = passing(&fallback, &limit, 1);
            assert_eq!(left, 5 - used, "{mode}");
        };
        check(Mode::Enforce, Hits::Spend(1), true, 0);
        check(Mode::Enforce, Hits::Spend(0), true, 0);
        check(Mode::Enforce, Hits::GiveBack(1), true, 0);
        check(Mode::Quota, Hits::Spend(1), true, 0);
        check(Mode::Shadow, Hits::Spend(1), false, 1);
    }

    #[test]
    fn a_refusal_is_known_though_another_limit_fails() {
        let limit = sliding(5);
        let fallback = shared_by(1);
        let mut batch = ask(&limit, Hits::Spend(6));
        let failing = Charge { on_outage: OnOutage::Error, group: 1, ..batch.charges[0].clone() };
        let key_index = batch.key_index(Key::of_domain("other"));
        batch.charges.push(Charge { key_index, ..failing });
        let decisions = fallback.decide(&batch, None, at(0)).decisions;
        assert_eq!(GroupFit::of(&decisions[..1]), GroupFit::Over);
        assert_eq!(GroupFit::of(&decisions[1..]), GroupFit::Failed);
    }
}
