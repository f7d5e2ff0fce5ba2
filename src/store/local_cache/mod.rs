//! The local cache of a sidecar: it answers from leases and cached refusals, without a call to the shared store.
//!
//! It caches refusals until a certain time (`refusals.rs`), and leased hits (`leases.rs`). All other requests are
//! decided exactly in the store. If the store refuses a request while this sidecar has leased hits of the counter, it
//! gives those back and asks once more, so that no request is refused for hits of its own sidecar.

mod give_back;
mod heat;
mod leased_key;
mod leases;
mod monotonic;
mod pool;
mod refusals;
#[cfg(test)]
mod simulation;

use std::sync::atomic::{AtomicU64, Ordering};

use super::{Arrival, Batch, Outcome, Store, StoreError, StoreWait};
use crate::clock::Now;
use crate::policy::Key;

use leases::{Leases, UnusedLease};
use monotonic::{MonotonicClock, MonotonicTime};
use pool::Call;
use refusals::{GiveBackMark, Refusals};

#[cfg(test)]
pub use refusals::HOLD_MS_MAX;

/// A shared store with the cache of this sidecar.
#[derive(Debug)]
pub struct LocalCache<S> {
    store: S,
    clock: MonotonicClock,
    refusals: Refusals,
    leases: Leases,
    returned: AtomicU64,
}

/// The state of the cache before a batch is sent.
struct Question {
    mark: GiveBackMark,
    sent: MonotonicTime,
}

/// Counts since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LocalCacheCounts {
    /// Requests that were refused by a cached refusal.
    pub refused: u64,
    /// Requests that passed by leased hits.
    pub leased: u64,
    /// Leased hits that were given back.
    pub returned: u64,
    /// Leases that may be spent now.
    pub live: usize,
}

impl<S> LocalCache<S> {
    /// An empty cache.
    pub fn new(store: S) -> Self {
        Self {
            store,
            clock: MonotonicClock::start(),
            refusals: Refusals::new(),
            leases: Leases::new(),
            returned: AtomicU64::new(0),
        }
    }

    /// The store.
    pub fn store(&self) -> &S {
        &self.store
    }

    /// The counts of the cache.
    pub fn counts(&self, now: Now) -> LocalCacheCounts {
        LocalCacheCounts {
            refused: self.refusals.answered(),
            leased: self.leases.answered(),
            returned: self.returned.load(Ordering::Relaxed),
            live: self.leases.live(self.clock.time(now)),
        }
    }

    /// Decides a batch by the cache; None if that is not possible.
    pub fn answer(&self, batch: &Batch, now: Now) -> Option<Outcome> {
        let outcome = self.answer_part(batch, now)?;
        if !outcome.admitted {
            self.refusals.count();
        }
        Some(outcome)
    }

    /// The same for a part of a request, which is not counted as a refused request.
    pub fn answer_part(&self, batch: &Batch, now: Now) -> Option<Outcome> {
        let time = self.clock.time(now);
        let leased = Leases::may_serve(batch).then(|| self.leases.spend(batch, time)).flatten();
        leased.or_else(|| self.refusals.find(batch, time))
    }

    /// Counts a request as refused by a cached refusal of one of its parts.
    pub fn count_refusal(&self) {
        self.refusals.count();
    }

    /// The cached refusal of a part of a request, if there is a valid one.
    pub fn refusal(&self, batch: &Batch, now: Now) -> Option<Outcome> {
        self.refusals.find(batch, self.clock.time(now))
    }

    fn time(&self, now: Now) -> MonotonicTime {
        self.clock.time(now)
    }
}

impl<S: Store> LocalCache<S> {
    /// Asks the store to decide a batch without a [`LocalCache::answer`].
    ///
    /// # Errors
    /// Those of [`Store::charge_after`].
    pub async fn ask(&self, batch: &Batch, arrival: Arrival) -> Result<Outcome, StoreError> {
        let outcome = self.call(batch, arrival).await?;
        if outcome.admitted {
            return Ok(outcome);
        }
        let unused = self.leases.take_refused(batch, &outcome, self.time(arrival.now));
        if unused.is_empty() {
            return Ok(outcome);
        }
        // Boxed, because it is large and rare.
        Ok(Box::pin(self.ask_again(batch, outcome, (&unused, arrival))).await)
    }

    /// Gives back leases of the limits that refused, and asks once more.
    async fn ask_again(
        &self,
        batch: &Batch,
        refusal: Outcome,
        (unused, arrival): (&[UnusedLease], Arrival),
    ) -> Outcome {
        self.return_leases(unused, arrival.now).await;
        if refusal.is_charged() {
            // Its debits already count, and would count again.
            return refusal;
        }
        self.call(batch, arrival).await.unwrap_or(refusal)
    }

    /// Asks the store, also for leases if they pay off, and stores the results.
    async fn call(&self, batch: &Batch, arrival: Arrival) -> Result<Outcome, StoreError> {
        let (question, with_ahead) = self.before(batch, arrival.now);
        let batch = with_ahead.as_ref().unwrap_or(batch);
        let answer = self.store.charge_after(batch, arrival.now, arrival.wait()).await;
        self.after(batch, answer, (question, arrival.now))
    }

    /// Prepares a batch to be sent, and returns it with the hits to take ahead, if any.
    fn before(&self, batch: &Batch, now: Now) -> (Question, Option<Batch>) {
        let question = Question { mark: self.refusals.mark(), sent: self.time(now) };
        self.refusals.give_back(batch);
        let ahead = Leases::may_serve(batch).then(|| self.leases.ask(batch, question.sent));
        let with_ahead = ahead.flatten().map(|ahead| {
            let mut batch = batch.clone();
            let charges = batch.charges.iter_mut().zip(ahead);
            charges.for_each(|(charge, hits)| charge.ahead = hits);
            batch
        });
        (question, with_ahead)
    }

    /// Stores the leases and the refusal in an answer to a batch.
    fn after(
        &self,
        batch: &Batch,
        answer: Result<Outcome, StoreError>,
        (Question { mark, sent }, now): (Question, Now),
    ) -> Result<Outcome, StoreError> {
        self.refusals.give_back(batch);
        let mut outcome = answer?;
        let (received, lead_ms) = (self.time(now), lead_ms(now));
        let call = Call { sent, received, at: outcome.at, lead_ms };
        self.leases.learn(batch, &mut outcome, call);
        if outcome.is_charged() {
            self.refusals.pass(batch, call.received);
        } else {
            self.refusals.keep(batch, &outcome, (mark, call));
        }
        Ok(outcome)
    }

    /// Sends a batch that gives hits back, for a request that has already waited for the store.
    ///
    /// # Errors
    /// Those of [`Store::charge_after`].
    pub async fn give_back(&self, batch: &Batch, arrival: Arrival) -> Result<Outcome, StoreError> {
        self.refusals.give_back(batch);
        let outcome = self.store.charge_after(batch, arrival.now, arrival.wait()).await;
        self.refusals.give_back(batch);
        outcome
    }
}

impl<S: Store> Store for LocalCache<S> {
    async fn charge_after(
        &self,
        batch: &Batch,
        now: Now,
        wait: StoreWait,
    ) -> Result<Outcome, StoreError> {
        match self.answer(batch, now) {
            Some(outcome) => Ok(outcome),
            None => self.ask(batch, Arrival::after(now, wait)).await,
        }
    }

    fn shard_of(&self, key: &Key) -> u32 {
        self.store.shard_of(key)
    }

    fn is_healthy(&self) -> bool {
        self.store.is_healthy()
    }

    fn sidecars(&self) -> u32 {
        self.store.sidecars()
    }
}

/// How far a store's clock may be ahead of its reported time, which is in whole milliseconds.
fn lead_ms(now: Now) -> u64 {
    match now {
        Now::Local(_) => 1,
        Now::Given(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::clock::Timestamp;
    use crate::limit::{Algorithm, Bonus, Fit, Hits, Limit, Sliding};
    use crate::policy::{Lease, Mode, Refused};
    use crate::store::embedded::Memory;
    use crate::store::{Charge, Gauge};

    const WINDOW_MS: u64 = 60_000;
    const SLOT_MS: u64 = 1_000;
    const START_MS: u64 = 1_750_000_000_000;

    /// By the process's clock.
    const LOCAL: Now = Now::Local(Timestamp::from_ms(START_MS));

    /// A store in this process that counts its calls.
    struct Counting {
        memory: Memory,
        calls: AtomicU64,
        /// The error, if it is unavailable.
        error: Mutex<Option<StoreError>>,
    }

    impl Store for Counting {
        async fn charge_after(
            &self,
            batch: &Batch,
            now: Now,
            _wait: StoreWait,
        ) -> Result<Outcome, StoreError> {
            self.calls.fetch_add(1, Ordering::Relaxed);
            if let Some(error) = self.error.lock().unwrap().clone() {
                return Err(error);
            }
            Ok(self.memory.charge_at(batch, now.timestamp()))
        }

        fn is_healthy(&self) -> bool {
            true
        }

        fn sidecars(&self) -> u32 {
            1
        }
    }

    /// A store with a fixed latency.
    struct Distant {
        memory: Memory,
        clock: MonotonicClock,
        there: Duration,
        back: Duration,
    }

    impl Distant {
        fn at(&self) -> Timestamp {
            Timestamp::from_ms(START_MS + self.clock.time(LOCAL).as_us() / 1_000)
        }
    }

    impl Store for Distant {
        async fn charge_after(
            &self,
            batch: &Batch,
            _now: Now,
            _wait: StoreWait,
        ) -> Result<Outcome, StoreError> {
            // In the runtime's paused time, which passes at once.
            tokio::time::sleep(self.there).await;
            let outcome = self.memory.charge_at(batch, self.at());
            tokio::time::sleep(self.back).await;
            Ok(outcome)
        }

        fn is_healthy(&self) -> bool {
            true
        }

        fn sidecars(&self) -> u32 {
            1
        }
    }

    struct Bench(LocalCache<Counting>);

    impl Bench {
        fn new() -> Self {
            let (memory, calls) = (Memory::new(1_000), AtomicU64::new(0));
            Self(LocalCache::new(Counting { memory, calls, error: Mutex::default() }))
        }

        /// From now on the store answers with an error, or is available again.
        fn fail(&self, error: Option<StoreError>) {
            *self.0.store().error.lock().unwrap() = error;
        }

        fn calls(&self) -> u64 {
            self.0.store().calls.swap(0, Ordering::Relaxed)
        }

        async fn ask(&self, batch: &Batch, at_ms: u64) -> Outcome {
            self.0.charge(batch, at(at_ms)).await.unwrap()
        }

        /// Whether a batch is refused, and the number of calls for that answer.
        async fn refused(&self, batch: &Batch, at_ms: u64) -> (bool, u64) {
            let refused = !self.ask(batch, at_ms).await.admitted;
            (refused, self.calls())
        }

        /// The remaining hits in the store itself.
        fn remaining(&self, batch: &Batch, at_ms: u64) -> u64 {
            let mut peek = batch.clone();
            peek.charges.iter_mut().for_each(|charge| charge.hits = Hits::Spend(0));
            let memory = &self.0.store().memory;
            memory.charge_at(&peek, at(at_ms).timestamp()).decisions[0].standing.remaining
        }

        /// Requests one hit per millisecond until some are leased, and returns the number of requests.
        async fn heat(&self, batch: &Batch, from_ms: u64) -> u64 {
            for asked in 0..100 {
                if 0 < self.0.counts(at(from_ms + asked)).live {
                    return asked;
                }
                self.ask(batch, from_ms + asked).await;
            }
            panic!("no lease");
        }
    }

    fn at(ms: u64) -> Now {
        Now::Given(Timestamp::from_ms(ms))
    }

    fn sliding(amount: u64) -> Limit {
        Limit::new(amount, Algorithm::Sliding(Sliding::new(WINDOW_MS, amount)))
    }

    fn batch(key: &str, limit: Limit, hits: Hits) -> Batch {
        let mut batch = Batch::default();
        add(&mut batch, key, limit, hits);
        batch
    }

    fn add(batch: &mut Batch, key: &str, limit: Limit, hits: Hits) {
        let mut name = Key::of_domain("d");
        name.push_value("key", key);
        let key_index = batch.key_index(name);
        batch.charges.push(Charge {
            group: key_index,
            lease: Lease::Auto,
            ..Charge::plain(key_index, Arc::new(limit), hits)
        });
    }

    fn wait_ms(outcome: &Outcome) -> u64 {
        match outcome.decisions[0].fit {
            Fit::AfterMs(ms) => ms,
            fit => panic!("{fit:?}"),
        }
    }

    #[tokio::test]
    async fn a_refusal_is_known_until_the_request_would_pass() {
        let bench = Bench::new();
        let limit = Limit::new(1, Algorithm::Sliding(Sliding::new(100, 1)));
        let one = batch("a", limit, Hits::Spend(1));
        assert_eq!(bench.refused(&one, 1_000).await, (false, 1));
        assert_eq!(bench.refused(&one, 1_010).await, (true, 1));
        let known = bench.ask(&one, 1_060).await;
        assert_eq!((known.admitted, known.at.as_ms(), wait_ms(&known)), (false, 1_060, 40));
        assert_eq!(known.decisions[0].standing.reset_ms, Some(40));
        assert_eq!(bench.refused(&one, 1_099).await, (true, 0));
        assert_eq!(bench.refused(&one, 1_100).await, (false, 1));
    }

    /// The answer of any sidecar at any time.
    #[tokio::test(start_paused = true)]
    async fn a_wait_is_exact_from_when_it_is_asked_for_however_far_the_store_is() {
        const DELAYS_MS: [u64; 4] = [0, 1, 4, 20];
        let delays = DELAYS_MS.iter().flat_map(|there| DELAYS_MS.map(|back| (*there, back)));
        for (there_ms, back_ms) in delays {
            let (memory, clock) = (Memory::new(10), MonotonicClock::start());
            let (there, back) = (Duration::from_millis(there_ms), Duration::from_millis(back_ms));
            let cache = LocalCache::new(Distant { memory, clock, there, back });
            let limit = Limit::new(1, Algorithm::Sliding(Sliding::new(200, 1)));
            let one = batch("a", limit, Hits::Spend(1));
            assert!(cache.charge(&one, LOCAL).await.unwrap().admitted);
            let asked = cache.store().at();
            let reported = cache.charge(&one, LOCAL).await.unwrap();
            let passes = asked.after(Duration::from_millis(wait_ms(&reported)));
            let mut held = 0;
            while let Some(reported) = cache.answer(&one, LOCAL) {
                let promised = cache.store().at().after(Duration::from_millis(wait_ms(&reported)));
                assert_eq!(promised, passes, "{there_ms} ms there, {back_ms} back");
                tokio::time::advance(Duration::from_millis(1)).await;
                held += 1;
            }
            assert!(100 < held, "{held}");
            for (soon_ms, admitted) in [(1, false), (0, true)] {
                let later_ms = wait_ms(&reported) + there_ms - soon_ms;
                let at = asked.after(Duration::from_millis(later_ms));
                let decided = cache.store().memory.charge_at(&one, at);
                assert_eq!(decided.admitted, admitted, "{there_ms} ms there, {back_ms} back");
            }
        }
    }

    #[tokio::test]
    async fn a_refusal_is_asked_for_anew_after_a_quarter_of_a_second() {
        let bench = Bench::new();
        for (amount, first) in [(1, false), (0, true)] {
            let one = batch(&format!("of {amount}"), sliding(amount), Hits::Spend(1));
            assert_eq!(bench.refused(&one, 1_000).await, (first, 1));
            assert_eq!(bench.refused(&one, 1_000).await, (true, u64::from(!first)));
            assert_eq!(bench.refused(&one, 1_249).await, (true, 0));
            assert_eq!(bench.refused(&one, 1_250).await, (true, 1));
        }
    }

    #[tokio::test]
    async fn what_comes_back_ends_a_refusal_at_once() {
        let bench = Bench::new();
        let one = batch("a", sliding(1), Hits::Spend(1));
        bench.ask(&one, 1_000).await;
        bench.ask(&one, 1_000).await;
        bench.ask(&batch("a", sliding(1), Hits::GiveBack(1)), 1_001).await;
        assert!(bench.ask(&one, 1_002).await.admitted);
    }

    #[tokio::test]
    async fn a_refusal_tells_what_remains_after_those_that_passed_here() {
        let bench = Bench::new();
        let ask = |hits| batch("a", sliding(9), Hits::Spend(hits));
        bench.ask(&ask(7), 1_000).await;
        assert!(!bench.ask(&ask(3), 1_000).await.admitted);
        bench.ask(&ask(1), 1_001).await;
        assert_eq!(bench.ask(&ask(3), 1_002).await.decisions[0].standing.remaining, 1);
    }

    #[tokio::test]
    async fn a_refusal_is_known_of_the_same_request_only() {
        let bench = Bench::new();
        let ask = |key, amount, hits| batch(key, sliding(amount), Hits::Spend(hits));
        bench.ask(&ask("a", 9, 8), 1_000).await;
        bench.ask(&ask("a", 9, 2), 1_000).await;
        bench.calls();
        assert_eq!(bench.refused(&ask("a", 9, 2), 1_001).await, (true, 0));
        assert_eq!(bench.refused(&ask("a", 9, 3), 1_001).await, (true, 1));
        assert_eq!(bench.refused(&ask("a", 10, 2), 1_001).await, (false, 1), "another amount");
        assert_eq!(bench.refused(&ask("b", 9, 2), 1_001).await, (false, 1), "another key");
        let mut reserved = ask("a", 9, 2);
        reserved.charges[0].open.hits = 8;
        assert_eq!(bench.refused(&reserved, 1_001).await, (true, 1), "less is open");
    }

    #[tokio::test]
    async fn what_depends_on_more_than_counters_is_asked_for_each_time() {
        let bench = Bench::new();
        let mut gauged = batch("a", sliding(0), Hits::Spend(1));
        gauged.gauges.push(Gauge { key_index: 0, marks: [].into_iter().collect() });
        let mut gifted = batch("a", sliding(0), Hits::Spend(2));
        let bonus = Bonus::new("b", 1, Timestamp::from_ms(9_000));
        gifted.charges[0].bonuses.push(bonus);
        let mut both = batch("a", sliding(0), Hits::Spend(1));
        add(&mut both, "b", sliding(9), Hits::GiveBack(1));
        for batch in [gauged, gifted, both] {
            assert_eq!(bench.refused(&batch, 1_000).await, (true, 1));
            assert_eq!(bench.refused(&batch, 1_000).await, (true, 1));
        }
    }

    #[tokio::test]
    async fn a_hot_key_is_served_here_and_what_remains_is_told_as_it_is() {
        let bench = Bench::new();
        let one = batch("a", sliding(6_400), Hits::Spend(1));
        let mut local = 0;
        for asked in 0..400 {
            let outcome = bench.ask(&one, 10_000 + asked).await;
            assert_eq!(outcome.at.as_ms(), 10_000 + asked);
            assert_eq!(outcome.decisions[0].standing.remaining, 6_400 - 1 - asked);
            local += u64::from(bench.calls() == 0);
        }
        assert!(380 <= local, "{local}");
        bench.0.close(at(10_400)).await;
        assert_eq!(bench.remaining(&one, 10_400), 6_000);
    }

    #[tokio::test]
    async fn a_lease_ends_with_its_slot_and_what_is_left_comes_back() {
        let bench = Bench::new();
        let one = batch("a", sliding(6_400), Hits::Spend(1));
        let asked = bench.heat(&one, 10_000).await;
        assert!(bench.remaining(&one, 10_100) < 6_400 - asked);
        bench.calls();
        assert_eq!(bench.refused(&one, 10_000 + SLOT_MS - 2).await, (false, 0));
        bench.0.maintain(at(10_000 + SLOT_MS - 2)).await;
        assert_eq!(bench.calls(), 0, "there is no hurry");
        assert_eq!(bench.0.counts(at(10_000 + SLOT_MS - 1)).live, 0);
        bench.0.maintain(at(10_000 + SLOT_MS - 1)).await;
        assert_eq!(bench.calls(), 1);
        assert_eq!(bench.remaining(&one, 10_000 + SLOT_MS), 6_400 - asked - 1);
        assert_eq!(bench.refused(&one, 10_000 + SLOT_MS).await, (false, 1));
    }

    fn disconnected() -> StoreError {
        StoreError::Disconnected { address: "store".to_owned(), reason: "a test".to_owned() }
    }

    #[tokio::test]
    async fn leases_that_end_during_an_outage_come_back_after_it() {
        let bench = Bench::new();
        let one = batch("a", sliding(6_400), Hits::Spend(1));
        let mut asked = 0;
        for from_ms in [10_000, 20_000, 30_000] {
            asked += bench.heat(&one, from_ms).await;
            bench.fail(Some(disconnected()));
            // Also if the key's pool would be removed for lack of requests.
            for later_ms in [SLOT_MS, SLOT_MS + 100, 3_000, 3_100] {
                bench.0.maintain(at(from_ms + later_ms)).await;
            }
            bench.fail(None);
            assert!(bench.remaining(&one, from_ms + 3_200) < 6_400 - asked);
            bench.0.maintain(at(from_ms + 3_200)).await;
            assert_eq!(bench.remaining(&one, from_ms + 3_200), 6_400 - asked, "{from_ms}");
            bench.calls();
            bench.0.maintain(at(from_ms + 3_300)).await;
            assert_eq!(bench.calls(), 0, "they come back once");
        }
    }

    #[tokio::test]
    async fn leases_are_given_back_again_only_if_the_store_has_not_taken_them_for_certain() {
        let late = StoreError::Late { deadline: Duration::from_millis(10) };
        let foreign = StoreError::Foreign { reason: "a test".to_owned() };
        let none: Option<StoreError> = None;
        for (error, again, until_ms) in [
            (Some(disconnected()), 1, 12_000),
            (Some(StoreError::Crowded), 1, 12_000),
            (Some(late), 0, 12_000),
            (Some(foreign), 0, 12_000),
            (none, 0, 12_000),
            (Some(disconnected()), 0, 10_000 + 2 * SLOT_MS + WINDOW_MS),
        ] {
            let bench = Bench::new();
            let one = batch("a", sliding(6_400), Hits::Spend(1));
            bench.heat(&one, 10_000).await;
            bench.fail(error.clone());
            for at_ms in [10_000 + SLOT_MS, until_ms] {
                bench.0.maintain(at(at_ms)).await;
            }
            bench.fail(None);
            bench.calls();
            bench.0.maintain(at(until_ms + 100)).await;
            assert_eq!(bench.calls(), again, "{error:?} until {until_ms}");
        }
    }

    /// Also hits that a refused request has taken.
    #[tokio::test]
    async fn a_refusal_whose_give_back_fails_keeps_the_hits_for_later() {
        let bench = Bench::new();
        let one = batch("a", sliding(640), Hits::Spend(1));
        let asked = bench.heat(&one, 10_000).await;
        let refused = bench.0.leases.take_ended(true, bench.0.time(at(10_100)));
        bench.fail(Some(disconnected()));
        bench.0.return_leases(&refused, at(10_100)).await;
        bench.fail(None);
        bench.0.maintain(at(10_200)).await;
        assert_eq!(bench.remaining(&one, 10_200), 640 - asked);
    }

    #[tokio::test]
    async fn no_request_is_refused_for_hits_that_its_own_sidecar_holds() {
        let bench = Bench::new();
        let one = batch("a", sliding(640), Hits::Spend(1));
        let asked = bench.heat(&one, 10_000).await;
        let rest = batch("a", sliding(640), Hits::Spend(640 - asked));
        assert!(bench.ask(&rest, 10_100).await.admitted, "{asked}");
        assert!(!bench.ask(&one, 10_100).await.admitted);
    }

    /// A refused debit already counts: this sidecar gives its hits back, and the debit isn't made again.
    #[tokio::test]
    async fn a_debit_counts_once_though_this_sidecar_holds_hits() {
        let bench = Bench::new();
        let one = batch("a", sliding(640), Hits::Spend(1));
        let asked = bench.heat(&one, 10_000).await;
        let mut debit = batch("a", sliding(640), Hits::Spend(641));
        debit.charges[0].refused = Refused::Counted;
        let outcome = bench.ask(&debit, 10_100).await;
        assert!(!outcome.admitted && outcome.decisions[0].counted);
        let wide = batch("a", sliding(10_000), Hits::Spend(1));
        assert_eq!(bench.remaining(&wide, 10_100), 10_000 - asked - 641);
        assert_eq!(bench.0.counts(at(10_100)).live, 0);
        let mut peek = debit.clone();
        peek.charges[0].hits = Hits::Spend(0);
        bench.calls();
        assert_eq!(bench.refused(&peek, 10_100).await, (true, 1));
        assert_eq!(bench.refused(&peek, 10_101).await, (true, 0), "that refusal is known");
        // A debit is never answered from the cache.
        bench.ask(&debit, 10_102).await;
        assert_eq!(bench.calls(), 1);
    }

    #[tokio::test]
    async fn another_amount_does_not_spend_what_was_taken_of_one() {
        let bench = Bench::new();
        let one = batch("a", sliding(6_400), Hits::Spend(1));
        bench.heat(&one, 10_000).await;
        bench.calls();
        let edited = batch("a", sliding(3_200), Hits::Spend(1));
        assert_eq!(bench.refused(&edited, 10_100).await, (false, 1));
    }

    #[tokio::test]
    async fn a_request_is_decided_here_as_a_whole_or_not() {
        let bench = Bench::new();
        let one = batch("a", sliding(6_400), Hits::Spend(1));
        bench.heat(&one, 10_000).await;
        let reported = bench.ask(&one, 10_100).await.decisions[0].standing.remaining;
        let mut both = one.clone();
        add(&mut both, "b", sliding(6_400), Hits::Spend(1));
        bench.calls();
        assert_eq!(bench.refused(&both, 10_100).await, (false, 1));
        let then = bench.ask(&one, 10_100).await.decisions[0].standing.remaining;
        assert_eq!(then, reported - 2, "what was spent here for both came back");
    }

    #[tokio::test]
    async fn what_cannot_be_leased_is_charged_exactly() {
        let bench = Bench::new();
        let one = batch("a", sliding(6_400), Hits::Spend(1));
        let mut off = one.clone();
        off.charges[0].lease = Lease::Off;
        let mut shadow = one.clone();
        shadow.charges[0].mode = Mode::Shadow;
        let mut reserved = one.clone();
        reserved.charges[0].open.hits = 6_000;
        for batch in [off, shadow, reserved, batch("b", sliding(63), Hits::Spend(1))] {
            bench.calls();
            for ms in 0..50 {
                bench.ask(&batch, 10_000 + ms).await;
            }
            assert_eq!(bench.calls(), 50, "{batch:?}");
        }
    }
}
