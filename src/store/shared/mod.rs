//! A store that several sidecars share, with what a sidecar does without it: the local cache
//! (`near/`), and decisions while the store is unavailable (`fallback.rs`).

mod parts;
mod returns;
#[cfg(test)]
mod simulation;

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;
use smallvec::SmallVec;
use tokio::time::Instant;

use super::Arrival;
use super::Batch;
use super::Charge;
use super::Debt;
use super::Fallback;
use super::INLINE_CAP;
use super::Outcome;
use super::StoreError;
use super::near::Near;
use super::near::SharedStore;
use crate::clock::Now;
use crate::clock::Timestamp;
use crate::clock::monotonic_now;
use crate::policy::Key;
use crate::policy::OnOutage;

use parts::Part;
use parts::join;
use parts::parts_of;
use returns::Returned;
use returns::Returns;
use returns::batch_of;

/// Debts that are brought to the store at a time: as many as share a call.
const DEBTS_AT_ONCE: usize = 64;

/// How often what is on its way back is sent at the end.
const RETURNS_AT_THE_END: usize = 16;

/// A store that several sidecars share, and what is done here without it.
#[derive(Debug)]
pub struct Shared<S> {
    /// The store, and what is known of it here.
    pub near: Near<S>,
    /// What decides while it is out.
    pub fallback: Fallback,
    steady: Mutex<Steady>,
    /// Debts are on their way to the store.
    paying: AtomicBool,
    /// What parts of requests charged in vain.
    returns: Returns,
}

/// A clock that goes on whatever becomes of the system's: a step during an outage would free what is owed, or hold it.
#[derive(Clone, Copy, Debug)]
struct Steady {
    /// What the system's clock said then.
    at: Timestamp,
    since: Instant,
}

/// The answer to a batch that the store was asked for.
#[derive(Debug)]
pub struct Asked {
    pub outcome: Outcome,
    /// Why the store did not decide, if it didn't.
    pub error: Option<StoreError>,
}

impl<S: SharedStore> Shared<S> {
    /// A store of which nothing is known here yet.
    pub fn new(store: S, fallback: Fallback) -> Self {
        let steady = Steady { at: Timestamp::default(), since: monotonic_now() };
        Self {
            near: Near::new(store),
            fallback,
            steady: Mutex::new(steady),
            paying: AtomicBool::new(false),
            returns: Returns::new(),
        }
    }

    /// The time by which this sidecar decides: the system's clock's as of when nothing was owed last, and what has passed
    /// since.
    fn time(&self, now: Now) -> Timestamp {
        let Now::Local(at) = now else { return now.timestamp() };
        let mut steady = self.steady.lock().unwrap_or_else(PoisonError::into_inner);
        if steady.at == Timestamp::default() {
            *steady = Steady { at, since: monotonic_now() };
        }
        steady.at.after(monotonic_now() - steady.since)
    }

    /// Sets the steady clock by the system's.
    fn set_clock(&self, now: Now) {
        let at = now.timestamp();
        let steady = Steady { at, since: monotonic_now() };
        *self.steady.lock().unwrap_or_else(PoisonError::into_inner) = steady;
    }

    /// Decides a batch by what is known here; None if that is not enough.
    pub fn answer(&self, batch: &Batch, now: Now) -> Option<Outcome> {
        self.near.answer(batch, now)
    }

    /// Has the store decide a batch for which there is no [`Shared::answer`], for a request that has waited for it
    /// before; where it can't, what the charges say of outages does.
    pub async fn ask(&self, batch: &Batch, now: Now, waited: Duration) -> Asked {
        match parts_of(batch, |key| self.near.store().place(key)) {
            None => self.ask_one(batch, Arrival::after(now, waited)).await,
            // Boxed, because it is large.
            Some(parts) => {
                let arrival = Arrival::after(now, waited);
                Box::pin(self.ask_parts(batch, parts, arrival)).await
            }
        }
    }

    /// Decides a batch that the store can't be asked for, by what the charges say of outages.
    pub fn decide_alone(&self, batch: &Batch, now: Now) -> Outcome {
        self.fallback.decide(batch, None, self.time(now))
    }

    /// Has each place of the store decide its part.
    async fn ask_parts(&self, batch: &Batch, mut parts: Vec<Part>, arrival: Arrival) -> Asked {
        parts.iter_mut().for_each(|part| {
            part.refusal = self.near.refusal(&part.batch, arrival.now);
        });
        if parts.iter().any(|part| part.refusal.is_some()) {
            let others = parts.iter_mut().filter(|part| part.refusal.is_none());
            others.for_each(|part| part.batch.look());
        }
        parts.sort_by_key(|part| !part.is_first());
        let first = parts.partition_point(Part::is_first);
        let (first, others) = parts.split_at_mut(first);
        let ask = |part: &Part| self.ask_part(part.refusal.clone(), part.batch.clone(), arrival);
        let mut asked = join_all(first.iter().map(ask)).await;
        let level = |gauge: usize| {
            let mut told = first.iter().zip(&asked);
            told.find_map(|(part, asked)| part.level(gauge, &asked.outcome)).unwrap_or(0)
        };
        others.iter_mut().for_each(|part| part.follow(level));
        asked.extend(join_all(others.iter().map(ask)).await);

        let error = asked.iter_mut().find_map(|asked| asked.error.take());
        let outcomes: Vec<Outcome> = asked.into_iter().map(|asked| asked.outcome).collect();
        let mut outcome = join(batch, &parts, &outcomes);
        if outcome.admitted {
            let come_back = |part: &Part| !part.comes_back(batch).charges.is_empty();
            let parts: SmallVec<[&Part; INLINE_CAP]> =
                parts.iter().filter(|part| come_back(part)).collect();
            let ask = |part: &&Part| self.ask_part(None, part.comes_back(batch), arrival);
            let asked = join_all(parts.iter().map(ask)).await;
            for (part, asked) in parts.iter().zip(asked) {
                part.came_back(batch, &asked.outcome, &mut outcome);
            }
        } else {
            let told = &outcome;
            let give_back = |(part, decided)| self.give_back(part, (decided, told), arrival);
            let returned = join_all(parts.iter().zip(&outcomes).map(give_back)).await;
            for ((part, decided), returned) in parts.iter().zip(&outcomes).zip(returned) {
                part.unspend(decided, &returned, &mut outcome);
            }
        }
        Asked { outcome, error }
    }

    async fn ask_part(&self, known: Option<Outcome>, batch: Batch, arrival: Arrival) -> Asked {
        match known.or_else(|| self.answer(&batch, arrival.now)) {
            Some(outcome) => Asked { outcome, error: None },
            None => self.ask_one(&batch, arrival).await,
        }
    }

    /// Gives back what a part has charged, because the request does not pass. It is noted before anything is sent, so it comes
    /// back although nobody waits for the request any more.
    async fn give_back(
        &self,
        part: &Part,
        (outcome, told): (&Outcome, &Outcome),
        arrival: Arrival,
    ) -> Vec<Returned> {
        let mut keys: SmallVec<[&Key; INLINE_CAP]> = SmallVec::new();
        let mut returned = Vec::new();
        for (key, backs) in part.charged(outcome, told) {
            if outcome.fallback {
                let back = batch_of(key.clone(), backs);
                let taken = self.fallback.decide(&back, None, self.time(arrival.now));
                returned.push((back, taken));
            } else {
                self.returns.add(key, backs);
                keys.push(key);
            }
        }
        let sending = keys.into_iter();
        let sending = sending.map(|key| self.returns.give_back(&self.near, key, arrival));
        for back in join_all(sending).await.into_iter().flatten() {
            self.learn_returned(&back, arrival.now);
            returned.push(back);
        }
        returned
    }

    /// Learns how limits stand that hits have come back to.
    fn learn_returned(&self, (batch, outcome): &Returned, now: Now) {
        self.fallback.learn(batch, outcome, self.time(now));
    }

    /// Brings on their way what is left of hits that come back.
    async fn tend_returns(&self, now: Now) {
        let returned = self.returns.tend(&self.near, now).await;
        returned.iter().for_each(|back| self.learn_returned(back, now));
    }

    /// Has one place of the store decide.
    async fn ask_one(&self, batch: &Batch, arrival: Arrival) -> Asked {
        let now = arrival.now;
        if self.is_paying() && batch.charges.iter().all(Charge::may_come_back_later) {
            // They may be owed themselves, and the store have nothing yet that it could take back.
            let outcome = self.fallback.decide(batch, None, self.time(now));
            return Asked { outcome, error: None };
        }
        match self.near.charge_after(batch, now, arrival.waited()).await {
            Ok(outcome) => {
                if batch.charges.iter().any(|charge| charge.on_outage == OnOutage::Local) {
                    self.fallback.learn(batch, &outcome, self.time(now));
                }
                Asked { outcome, error: None }
            }
            Err(error) => {
                let outcome = self.fallback.decide(batch, Some(&error), self.time(now));
                Asked { outcome, error: Some(error) }
            }
        }
    }

    /// Does what is due between requests: charges what was spent while the store was out, if it is back, and gives
    /// back what is left of leases that have ended. To be called a few times a second.
    pub async fn tend(&self, now: Now) {
        self.pay_debts(now).await;
        self.fallback.hear(self.near.store().sidecars());
        self.tend_returns(now).await;
        self.near.tend(now).await;
    }

    /// Does what is due before the end, because nobody will ask here any more.
    pub async fn close(&self, now: Now) {
        self.pay_debts(now).await;
        for _ in 0..RETURNS_AT_THE_END {
            if !self.returns.is_empty() {
                self.tend_returns(now).await;
            }
        }
        self.near.close(now).await;
    }

    async fn pay_debts(&self, now: Now) {
        if !self.near.store().is_healthy() {
            return;
        }
        if !self.is_paying() {
            return self.set_clock(now);
        }
        self.paying.store(true, Ordering::Release);
        let mut debts = self.fallback.take_debts(self.time(now)).into_iter();
        while debts.len() != 0 {
            join_all(debts.by_ref().take(DEBTS_AT_ONCE).map(|debt| self.pay(debt, now))).await;
        }
        self.fallback.look();
        self.paying.store(false, Ordering::Release);
    }

    /// Whether something is owed, or on its way.
    fn is_paying(&self) -> bool {
        self.fallback.owes() || self.paying.load(Ordering::Acquire)
    }

    /// Pays one debt.
    async fn pay(&self, debt: Debt, now: Now) {
        let batch = &debt.batch;
        match self.near.store().charge_after(batch, now, Duration::ZERO).await {
            Ok(outcome) => {
                self.fallback.learn(batch, &outcome, self.time(now));
                self.fallback.pay(batch);
            }
            // Something else stands where the counter was: there is nothing to charge.
            Err(StoreError::Foreign { .. }) => {}
            Err(_) => self.fallback.owe_again(debt),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::Arc;

    use futures_util::FutureExt;

    use super::*;
    use crate::limit::Algorithm;
    use crate::limit::Bucket;
    use crate::limit::Fixed;
    use crate::limit::Hits;
    use crate::limit::Limit;
    use crate::limit::Overdraft;
    use crate::limit::Sliding;
    use crate::store::memory::Memory;

    const NOW: Now = Now::Given(Timestamp::from_ms(1_750_000_000_000));

    /// A store of two places, one of which has those keys that end in a `c`. For a while it takes nothing back.
    struct Places {
        memory: Memory,
        takes_back: AtomicBool,
    }

    impl SharedStore for Places {
        async fn charge_after(
            &self,
            batch: &Batch,
            now: Now,
            _waited: Duration,
        ) -> Result<Outcome, StoreError> {
            let comes_back = |charge: &Charge| matches!(charge.hits, Hits::GiveBack(_));
            if batch.charges.iter().any(comes_back) && !self.takes_back.load(Ordering::Relaxed) {
                return pending().await;
            }
            Ok(self.memory.charge_at(batch, now.timestamp()))
        }

        fn place(&self, key: &Key) -> u32 {
            u32::from(key.as_str().ends_with('c'))
        }

        fn is_healthy(&self) -> bool {
            true
        }

        fn sidecars(&self) -> u32 {
            1
        }
    }

    #[tokio::test]
    async fn all_that_was_charged_in_vain_comes_back_though_nobody_waits_for_it() {
        let store = Places { memory: Memory::new(1_000), takes_back: AtomicBool::new(false) };
        let shared = Shared::new(store, Fallback::new(1_000, None));
        let limits = [5, 5, 0].map(|amount| Arc::new(Limit::new(amount, Algorithm::Total)));
        let mut batch = Batch::default();
        for (name, limit) in ["a", "b", "c"].into_iter().zip(&limits) {
            let key_index = batch.key_index(Key::of_domain(name));
            batch.charges.push(Charge::plain(key_index, limit.clone(), Hits::Spend(1)));
        }
        let asked = shared.ask(&batch, NOW, Duration::ZERO).now_or_never();
        assert!(asked.is_none(), "it waits for what it gives back");
        let used = || {
            let keys = batch.keys.iter().zip(&limits);
            keys.map(|(key, limit)| shared.near.store().memory.used(key, limit, NOW.timestamp()))
                .collect::<Vec<_>>()
        };
        assert_eq!(used(), [1, 1, 0]);
        shared.near.store().takes_back.store(true, Ordering::Relaxed);
        shared.tend(NOW).await;
        assert_eq!(used(), [0, 0, 0]);
    }

    /// As a store does that has all of it in one place.
    #[tokio::test]
    async fn a_refusal_tells_how_limits_stand_as_if_nothing_had_been_spent() {
        let sliding = Algorithm::Sliding(Sliding::new(60_000, 10));
        let bucket = Algorithm::Bucket(Bucket::new(10, 60_000, 10).unwrap());
        let fixed = Algorithm::Fixed(Fixed::new(60_000));
        for algorithm in [sliding, bucket, fixed, Algorithm::Total] {
            for (overdraft, spent) in [
                (Overdraft::None, 0),
                (Overdraft::None, 4),
                (Overdraft::Allow, 0),
                (Overdraft::Allow, 9),
            ] {
                let limit = Arc::new(Limit::new(10, algorithm.clone()).overdrawn(overdraft));
                let nothing = Arc::new(Limit::new(0, Algorithm::Total));
                let ask = |name, limit: &Arc<Limit>, hits| {
                    let plain = Charge::plain(0, limit.clone(), hits);
                    let charge = Charge { on_outage: OnOutage::Local, ..plain };
                    let keys = std::iter::once(Key::of_domain(name)).collect();
                    Batch { keys, charges: std::iter::once(charge).collect(), gauges: Vec::new() }
                };
                let mut refused = ask("a", &limit, Hits::Spend(2));
                let key_index = refused.key_index(Key::of_domain("c"));
                refused
                    .charges
                    .push(Charge { group: 1, ..Charge::plain(key_index, nothing, Hits::Spend(1)) });
                let whole = Memory::new(10);
                let store = Places { memory: Memory::new(10), takes_back: AtomicBool::new(true) };
                let shared = Shared::new(store, Fallback::new(10, Some(1)));
                let before = ask("a", &limit, Hits::Spend(spent));
                whole.charge_at(&before, NOW.timestamp());
                shared.ask(&before, NOW, Duration::ZERO).await;
                let later = Now::Given(NOW.timestamp().after(Duration::from_millis(1_500)));
                let expected = whole.charge_at(&refused, later.timestamp());
                let asked = shared.ask(&refused, later, Duration::ZERO).await.outcome;
                let name = format!("{algorithm} {overdraft:?} {spent}");
                assert_eq!(asked.decisions, expected.decisions, "{name}");
                // What is known of it for an outage is the same too.
                let peek = ask("a", &limit, Hits::Spend(0));
                let left = |outcome: Outcome| outcome.decisions[0].standing.remaining;
                let alone = left(shared.decide_alone(&peek, later));
                assert_eq!(alone, left(whole.charge_at(&peek, later.timestamp())), "{name}");
            }
        }
    }

    #[tokio::test]
    async fn what_comes_back_beside_another_place_is_told_as_it_is_then() {
        let store = Places { memory: Memory::new(10), takes_back: AtomicBool::new(true) };
        let shared = Shared::new(store, Fallback::new(10, Some(1)));
        let limit = Arc::new(Limit::new(5, Algorithm::Total));
        let mut batch = Batch::default();
        for (group, (name, hits)) in
            [("a", Hits::Spend(3)), ("c", Hits::Spend(1))].into_iter().enumerate()
        {
            let key_index = batch.key_index(Key::of_domain(name));
            let plain = Charge::plain(key_index, limit.clone(), hits);
            batch.charges.push(Charge { group, ..plain });
        }
        let left = |outcome: Outcome| {
            outcome.decisions.iter().map(|one| one.standing.remaining).collect::<Vec<_>>()
        };
        assert_eq!(left(shared.ask(&batch, NOW, Duration::ZERO).await.outcome), [2, 4]);
        batch.charges[0].hits = Hits::GiveBack(2);
        assert_eq!(left(shared.ask(&batch, NOW, Duration::ZERO).await.outcome), [4, 3]);
    }
}
